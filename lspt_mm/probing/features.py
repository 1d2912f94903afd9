"""Features of a frozen ViT, computed once for each image and kept in memory-mapped files."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from torch import nn
from torch.utils.data import DataLoader

from lspt_mm.checkpoints.records import fingerprint
from lspt_mm.errors import InputError
from lspt_mm.tasks import Task
from lspt_mm.utils.cache import cache_folder, digest_samples


class Features(NamedTuple):
    """``x`` (N, D) float32, memory-mapped, and ``labels`` (N,) of N images."""

    x: np.ndarray
    labels: np.ndarray


def head_features(
    model: nn.Module, dataset: dict, task: Task, batch_size: int = 64, workers: int = 0
) -> Features:
    """What the head of a classifier reads where its ViT has no prompts.

    They are kept in the cache (``LSPT_MM_CACHE``), in a file that is named by the ViT's weights,
    the preprocessing, and the images' names, sizes and times: a second call reads it.

    Args:
        model: With a ``PromptedViT`` as its backbone, on the device to be used; it stays as it is.
        dataset: Config of a data set, whose pipeline draws no random numbers.
        task: The model's task.
        batch_size: How many images at once.
        workers: Processes that load images.

    Raises:
        InputError: If an image cannot be read or has no label.
    """
    init_default_scope(task.scope)
    data = DATASETS.build(dataset)
    data.full_init()
    folder = cache_folder() / 'features' / _key(model, dataset, data)
    try:
        return _read(folder)
    except (OSError, ValueError):
        pass
    loader = DataLoader(data, batch_size, num_workers=workers, collate_fn=pseudo_collate)
    found, labels = [], []
    mode = model.training
    model.eval()
    try:
        with torch.no_grad():
            for batch in loader:
                packed = model.data_preprocessor(batch, False)
                x = model.backbone(packed['inputs'], prompter=False)[-1]
                found.append(x.float().cpu().numpy())
                labels += [_label(task, sample) for sample in packed['data_samples']]
    finally:
        model.train(mode)
    features = Features(np.concatenate(found), np.array(labels, np.int64))
    try:
        _write(folder, features)
        return _read(folder)
    except OSError:  # a full disk: computed again next time
        return features


def _label(task: Task, sample) -> int:
    truth = task.truth(sample)
    if truth is None or truth.size != 1:
        raise InputError(f'{sample.img_path}: has no label of one class')
    return int(truth.reshape(-1)[0])


def _key(model: nn.Module, dataset: dict, data) -> str:
    vit, preprocessor = model.backbone.describe(), model.data_preprocessor
    size = [getattr(preprocessor, name, None) for name in ('size', 'pad_size_divisor')]
    settings = [
        fingerprint(vit.tensors), vit.output, list(model.backbone.out_indices), size,
        [fingerprint(dict(preprocessor.named_buffers()))], repr(dataset),
        str(torch.__version__),
    ]  # fmt: skip
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    digest_samples(digest, (data.get_data_info(i) for i in range(len(data))))
    return digest.hexdigest()


def _write(folder: Path, features: Features) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in features._asdict().items():
        unfinished = folder / f'.{name}.part.npy'
        np.save(unfinished, array)
        unfinished.replace(folder / f'{name}.npy')


def _read(folder: Path) -> Features:
    return Features(np.load(folder / 'x.npy', mmap_mode='r'), np.load(folder / 'labels.npy'))
