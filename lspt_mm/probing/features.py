"""Features of a frozen ViT, computed once for each image and kept in memory-mapped files."""

import functools
import hashlib
import itertools
import json
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Callable, Dict, Iterable, Iterator, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from filelock import FileLock
from mmengine.dataset import pseudo_collate
from mmengine.logging import print_log
from mmengine.registry import DATASETS, init_default_scope
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lspt_mm.checkpoints.records import fingerprint
from lspt_mm.errors import InputError
from lspt_mm.probing.patches import patch_rows, sample_sizes
from lspt_mm.tasks import Task
from lspt_mm.utils.atomic_io import atomic_write
from lspt_mm.utils.cache import cache_folder, digest_samples


class Features(NamedTuple):
    """``x`` (N, D) float32 of N images or patches, memory-mapped, and ``shares`` (N, K) of classes.

    An image has one class, or in multi-label data any number of them; a patch has shares of one
    or several. ``files`` (N,) numbers the files of images, which a data set may repeat; None of
    patches.
    """

    x: np.ndarray
    shares: np.ndarray
    files: Optional[np.ndarray] = None


def frozen_features(
    dataset: dict, model: nn.Module, task: Task, batch_size: int = 8, workers: int = 0,
    skip_bad: int = 0,
) -> Features:
    """Features of a data set by the ViT without prompts: of images, or of patches for dense tasks.

    An image's features are what the head reads, the last of ``out_indices``; a patch's are all of
    these, concatenated (:mod:`~lspt_mm.probing.patches`). Arrays are cached (:func:`cached`).

    Args:
        dataset: Config of a data set, whose pipeline draws no random numbers.
        model: With a ``PromptedViT`` as its backbone, on the device to be used; not changed.
        task: The model's task.
        batch_size: How many images or windows at once.
        workers: Processes that load images.
        skip_bad: How many unreadable images are left out, each with a line in the log.

    Raises:
        InputError: If an image or a mask cannot be read, or an image has no label.
    """
    init_default_scope(task.scope)
    data = DATASETS.build(dataset)
    data.full_init()
    vit, preprocessor = model.backbone, model.data_preprocessor
    classes = task.head(model).num_classes
    chosen, each = list(range(len(data))), 1
    if task.dense:
        chosen, each = sample_sizes(len(data), vit.embed_dims * len(vit.out_indices) * classes)

    def compute() -> Dict[str, np.ndarray]:
        of = functools.partial(patch_rows, each=each) if task.dense else _image_rows
        rows = of(items(data, chosen, workers, skip_bad), model, task, classes, batch_size)
        x, shares, *paths = (np.concatenate(part) for part in zip(*rows, strict=True))
        arrays = {'x': x, 'shares': shares}
        if paths:
            arrays['files'] = np.unique(paths[0], return_inverse=True)[1]
        return arrays

    settings = [
        fingerprint(vit.own_tensors()), vit.settings(), vit.describe().output, vit.out_indices,
        vit.img_size,
        fingerprint(dict(preprocessor.named_buffers())), repr(dataset), task.name, classes, each,
        [getattr(preprocessor, name, None) for name in ('size', 'pad_size_divisor')],
        *(() if task.dense else ('files',)),
    ]
    with _frozen(model):
        arrays = cached(settings, (data.get_data_info(i) for i in chosen), compute)
    return Features(**arrays)


def _image_rows(loaded, model, task, classes, batch_size) -> Iterator[Tuple[np.ndarray, ...]]:
    """Features (B, D), shares of classes (B, K) and paths (B,) of batches of images."""
    seen = 0
    while batch := list(itertools.islice(loaded, batch_size)):
        packed = model.data_preprocessor(pseudo_collate(batch), False)
        x = model.backbone(packed['inputs'], prompter=False)[-1].float().cpu().numpy()
        if x.ndim != 2:
            raise InputError(
                f'backbone.out_type={model.backbone.out_type!r} has an output of shape '
                f'{x.shape[1:]} for an image; logistic regression needs a vector (cls_token, '
                'avg_patches, avg_tokens)'
            )
        labels = [_labels(task, sample) for sample in packed['data_samples']]
        # Without a path, such as CIFAR's, each image is another.
        paths = [sample.get('img_path') or f'{count}' for count, sample in
                 enumerate(packed['data_samples'], seen)]
        seen += len(paths)
        shares = np.array([np.isin(np.arange(classes), one) for one in labels], np.float32)
        yield x, shares, np.array(paths)


def _labels(task: Task, sample) -> np.ndarray:
    truth = task.truth(sample)
    if truth is None or (task.exclusive and truth.size != 1):
        raise InputError(f'{sample.img_path}: has no label of one class')
    return truth


def items(data, chosen: Sequence[int], workers: int = 0, skip_bad: int = 0) -> Iterator[dict]:
    """Yield items of a data set, except those that cannot be read.

    Args:
        data: With a pipeline.
        chosen: Numbers of the items to load.
        workers: Processes that load them.
        skip_bad: How many may be unreadable.

    Raises:
        InputError: If more are.
    """
    bad = set()  # the messages name the files
    loaded = map(_Items(data).__getitem__, chosen)  # draws no random numbers
    if workers:
        loaded = DataLoader(
            _Items(data), batch_size=None, sampler=chosen, num_workers=workers,
            collate_fn=_as_it_is,
        )
    for item in loaded:
        if not isinstance(item, str):
            yield item
            continue
        if item in bad:
            continue
        bad.add(item)
        if len(bad) > skip_bad:
            raise InputError(item)
        print_log(f'bad file {len(bad)} of at most {skip_bad} left out: {item}', 'current')


class _Items(Dataset):
    """Items, or their error messages: workers cannot raise all types of errors."""

    def __init__(self, data):
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int):
        try:
            return self.data[index]
        except InputError as error:
            return str(error)
        except Exception as error:  # decoders raise any type for broken files
            return f'{self.data.get_data_info(index)["img_path"]}: cannot be read ({error})'


def _as_it_is(item):
    return item


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """In eval mode and without gradients; afterwards the model is as it was."""
    mode = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(mode)


def cached(
    settings: Any,
    samples: Iterable[dict],
    compute: Callable[[], Dict[str, np.ndarray]],
) -> Dict[str, np.ndarray]:
    """Load arrays from the cache (``LSPT_MM_CACHE``), memory-mapped, or compute and store them.

    Processes that need the same arrays at once wait for the first of them.

    Args:
        settings: All that they depend on, except the images' files, as JSON or text.
        samples: With ``img_path``; names, sizes and times of the files count.
        compute: Returns the arrays by name.
    """
    content = json.dumps([settings, str(torch.__version__)], sort_keys=True, default=str)
    digest = hashlib.sha256(content.encode())
    digest_samples(digest, samples)
    folder = cache_folder() / 'features' / digest.hexdigest()
    done = folder / 'complete'
    if not done.is_file():
        with ExitStack() as stack:
            with suppress(OSError):  # of a cache that cannot be written
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(folder / '.lock'))
            if not done.is_file():
                arrays = compute()
                try:
                    for name, array in arrays.items():
                        path = folder / f'{name}.npy'
                        with atomic_write(path) as unfinished, open(unfinished, 'wb') as file:
                            np.save(file, array)
                    done.touch()
                except OSError:  # a full disk: computed again next time
                    return arrays
    return {path.stem: np.load(path, mmap_mode='r') for path in sorted(folder.glob('[!.]*.npy'))}
