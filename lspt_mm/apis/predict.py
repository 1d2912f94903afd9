"""Predictions of a folder of images as files: masks and overlays, or a table of classes."""

import csv
from collections import Counter
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track
from torch import nn

from lspt_mm.config.preflight import datasets_of
from lspt_mm.errors import InputError
from lspt_mm.tasks import Prediction, task_of
from lspt_mm.utils.images import IMAGE_SUFFIXES, check_image, list_images

Image = Union[str, Path, np.ndarray]


def image_pipeline(cfg: Config) -> Callable[[Image], dict]:
    """The test pipeline of a config, for one image: its path, or an array (H, W, 3) uint8 RGB.

    It is the pipeline of the test data set, as in ``tools/test.py``; without one,
    ``test_pipeline``. Labels are not loaded.

    Raises:
        InputError: If there is none, or it does not begin with loading an image.
    """
    found = [d.get('pipeline') for d in datasets_of(cfg, ('test_dataloader', 'val_dataloader'))]
    steps = next((steps for steps in [*found, cfg.get('test_pipeline')] if steps), None)
    if not steps or not str(steps[0].get('type')).split('.')[-1].startswith('LoadImage'):
        raise InputError(
            f'{cfg.filename}: no test pipeline that begins with LoadImageFromFile; expected one in '
            'test_dataloader.dataset.pipeline'
        )
    init_default_scope(task_of(cfg).scope)
    load = Compose(steps[:1])
    rest = Compose([step for step in steps[1:] if 'Annotation' not in str(step.get('type'))])
    number = np.float32 if steps[0].get('to_float32') else np.uint8

    def run(image: Image) -> dict:
        if not isinstance(image, np.ndarray):
            return rest(load({'img_path': str(image)}))
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise InputError(
                f'an image of {image.dtype} {image.shape}: expected uint8 (H, W, 3), RGB'
            )
        bgr = np.ascontiguousarray(image[..., ::-1]).astype(number, copy=False)
        return rest({'img': bgr, 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]})

    return run


@torch.no_grad()
def predict_image(model: nn.Module, packed: dict) -> Prediction:
    """Predict one image.

    Args:
        model: From :func:`lspt_mm.apis.init_model`.
        packed: The image, from :func:`image_pipeline`.

    Raises:
        InputError: If the image has too few pixels for the model.
    """
    task = task_of(model.cfg)
    check_size(model, packed)
    (sample,) = model.test_step(pseudo_collate([packed]))
    return task.prediction(sample)


def check_size(model: nn.Module, packed: dict) -> None:
    """Raise InputError for an image that has too few pixels for a model's pyramid."""
    least = task_of(model.cfg).least_patches * model.backbone.patch_size[0]
    height, width = packed['inputs'].shape[-2:]
    if min(height, width) < least:
        rows, columns = packed['data_samples'].ori_shape
        raise InputError(
            f'{columns} x {rows} pixels, {width} x {height} as the model gets them, are too few '
            f'for it: each side needs at least {least}'
        )


def images_of(sources: Sequence[Path]) -> List[Path]:
    """List the images of files and folders, and check that each can be decoded.

    Raises:
        InputError: Naming all that are missing, unreadable or truncated, and folders without one.
    """
    found: List[Path] = []
    problems = []
    for source in sources:
        if not source.is_dir():
            found.append(source)
            continue
        inside = list_images(source).images
        if not inside:
            problems.append(f'{source}: no image in it ({", ".join(IMAGE_SUFFIXES)})')
        found += inside
    for path in found:
        try:
            check_image(path)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError('\n  '.join([f'{len(problems)} inputs cannot be used:', *problems]))
    return found


def names_for(images: Sequence[Path]) -> List[str]:
    """Names of outputs: the images' without suffix, or with it where two would be equal."""
    stems = Counter(path.stem for path in images)
    names = [path.stem if stems[path.stem] == 1 else path.name for path in images]
    seen: Counter = Counter()
    unique = []
    for name in names:  # equal names from several folders
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f'{name}_{seen[name]}')
    return unique


def predict_images(
    model: nn.Module, images: Sequence[Path], out: Path, top: Optional[int] = None,
    progress: bool = False,
) -> List[str]:  # fmt: skip
    """Predict images one by one and write the results below ``out``.

    Segmentation: ``masks/NAME.png`` has numbers of classes from 0 with the classes' colours as the
    palette. ``overlays/NAME.jpg`` is the image with the classes over it and a legend.
    ``predictions.csv`` has the columns image, mask, overlay.
    Classification: ``predictions.csv`` with the columns image, rank, class, probability.

    Args:
        model: From :func:`lspt_mm.apis.init_model`.
        images: Paths of readable images.
        out: Folder, made if absent.
        top: Classification: how many classes are listed for an image. None is the likeliest one;
            of multi-label models all with a probability of at least a half, or an empty class.
        progress: Show a bar on standard error.

    Returns:
        A line for each image.
    """
    out.mkdir(parents=True, exist_ok=True)
    model.backbone.fuse()
    task, meta, pipeline = task_of(model.cfg), model.dataset_meta, image_pipeline(model.cfg)
    lines, rows = [], []
    todo = list(zip(images, names_for(images), strict=True))
    console = Console(stderr=True)
    for path, name in track(todo, 'predicting', console=console, disable=not progress):
        prediction = predict_image(model, pipeline(path))
        line, found = task.write(
            out, name, path, prediction, meta['classes'], meta['palette'], top
        )
        lines.append(f'{path}: {line}')
        rows += [(path, *row) for row in found]
    with open(out / 'predictions.csv', 'w', newline='', encoding='utf-8') as file:
        csv.writer(file).writerows([('image', *task.columns), *rows])
    return lines
