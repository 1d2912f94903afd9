"""Predictions of a folder of images as files: masks and overlays, or a table of classes."""

import csv
import glob
import os
from collections import Counter, deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement
from PIL import Image as PILImage
from rich.console import Console
from rich.progress import track
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lspt_mm.config.preflight import datasets_of
from lspt_mm.errors import InputError
from lspt_mm.tasks import Prediction, task_of
from lspt_mm.utils.checks import check_choice, check_int
from lspt_mm.utils.cli import any_image_size, check_writable, map_with_progress
from lspt_mm.utils.images import IMAGE_SUFFIXES, image_problem, list_images

Image = Union[str, Path, np.ndarray]
#: A path, a folder, a pattern such as ``'photos/*.jpg'``, or an iterable of these.
Paths = Union[str, Path, Iterable[Union[str, Path]]]
#: Precisions of a forward pass; weights stay in float32.
DTYPES = ('float32', 'float16', 'bfloat16')
#: File of all predictions of a folder.
TABLE = 'predictions.csv'
#: Folders of pictures of predictions.
WRITTEN = ('masks', 'overlays')
#: Threads that write results.
WRITERS = min(8, os.cpu_count() or 1)


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
    return _Pipeline(
        Compose(steps[:1]),
        Compose([step for step in steps[1:] if 'Annotation' not in str(step.get('type'))]),
        np.float32 if steps[0].get('to_float32') else np.uint8,
    )


class _Pipeline:
    """Of one image; a class, as loaders pickle it for their workers."""

    def __init__(self, load: Compose, rest: Compose, number: type):
        self.load, self.rest, self.number = load, rest, number

    def __call__(self, image: Image) -> dict:
        if isinstance(image, (str, os.PathLike)):
            return self.rest(self.load({'img_path': str(image)}))
        _check_pixels(image)
        bgr = np.ascontiguousarray(image[..., ::-1]).astype(self.number, copy=False)
        return self.rest({'img': bgr, 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]})


def _check_pixels(image: Any) -> None:
    """Raise InputError unless ``image`` is an array (H, W, 3) uint8 with pixels."""
    hints = []
    if isinstance(image, torch.Tensor):
        hints.append('.cpu().numpy() makes an array of a tensor')
    elif not isinstance(image, np.ndarray):
        raise InputError(f'an image of type {type(image).__name__}: expected a path or an array')
    elif image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
        return
    if image.ndim == 2:
        hints.append('grey: np.stack([image] * 3, -1)')
    if 'float' in str(image.dtype):
        hints.append('scale it to 0..255 and convert it to uint8')
    what = 'a torch tensor' if isinstance(image, torch.Tensor) else 'an image'
    raise InputError('; '.join([
        f'{what} of {image.dtype} {tuple(image.shape)}: expected uint8 (H, W, 3), RGB', *hints
    ]))


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


def check_size(model: nn.Module, packed: dict, name: Union[str, Path, None] = None) -> None:
    """Raise InputError for an image that has too few pixels for a model's pyramid.

    It is called ``name`` in the message, by default its path, if it has one.
    """
    least = task_of(model.cfg).least_patches * model.backbone.patch_size[0]
    height, width = packed['inputs'].shape[-2:]
    if min(height, width) < least:
        sample = packed['data_samples']
        name, (rows, columns) = name or sample.get('img_path'), sample.ori_shape
        raise InputError(
            f'{f"{name}: " if name else ""}{columns} x {rows} pixels, {width} x {height} as the '
            f'model gets them, are too few for it: each side needs at least {least}'
        )


def listed(images: Any, pixels: bool = False, out: Optional[Path] = None) -> list:
    """The images of a path, a folder, a pattern, or an iterable of these, in the order given.

    Those of a folder, searched recursively, and of a pattern are sorted. ``~`` is expanded.

    Args:
        images: A path, a folder, a pattern, or an iterable of these.
        pixels: Whether PIL images, arrays and tensors are accepted as well.
        out: Folder of predictions; the masks and overlays in it are not among those of a folder or
            a pattern.

    Returns:
        list: Paths, which are not opened, and PIL images, arrays and tensors as they are.

    Raises:
        InputError: If there is none, in a folder or at all, or a value is something else.
    """
    of_pixels = (PILImage.Image, np.ndarray, torch.Tensor) if pixels else ()
    if isinstance(images, np.ndarray) and images.dtype.kind in 'OTU':  # of paths
        images = images.ravel()
    elif isinstance(images, (str, *of_pixels)) or not isinstance(images, Iterable):
        images = [images]
    found = []
    for one in images:
        if isinstance(one, of_pixels):
            found.append(one)
        elif isinstance(one, (str, os.PathLike)):
            found += _files(Path(os.path.expanduser(one)), out)
        else:
            raise InputError(
                f'images: got {type(one).__name__}, expected a path, a folder, a pattern'
                f'{", a PIL image, an array (H, W, 3)" if pixels else ""}, or several of these'
            )
    if not found:
        raise InputError('images: none given, expected at least one')
    return found


def _files(place: Path, out: Optional[Path]) -> List[Path]:
    """The files that a path, a folder or a pattern stands for, without predictions in ``out``."""
    if place.is_dir():
        found = list_images(place).images
    elif place.exists() or not glob.has_magic(str(place)):
        return [place]
    else:
        found = sorted(map(Path, glob.glob(str(place), recursive=True)))
    if out is not None:
        written = [os.path.realpath(out / name) for name in WRITTEN]
        found = [path for path in found if os.path.realpath(path.parent) not in written]
    if not found:
        raise InputError(
            f'{place}: no image in it ({", ".join(IMAGE_SUFFIXES)})' if place.is_dir() else
            f'{place}: no file matches'
        )
    return found


def images_of(images: Paths, out: Optional[Path] = None) -> List[Path]:
    """As :func:`listed`, and check that each image can be decoded.

    Raises:
        InputError: Naming all that are missing, unreadable or truncated.
    """
    found = listed(images, out=out)
    problems = list(filter(None, map_with_progress(image_problem, found, 'checking images')))
    if problems:
        raise InputError('\n  '.join([f'{len(problems)} inputs cannot be used:', *problems]))
    return found


def names_for(images: Sequence[Path]) -> List[str]:
    """Names of outputs: the images' without suffix, or with it where two would be equal."""
    stems = Counter(path.stem for path in images)
    unique: Dict[str, None] = {}
    for path in images:
        first = name = path.stem if stems[path.stem] == 1 else path.name
        count = 1
        while name in unique:  # equal names from several folders
            count += 1
            name = f'{first}_{count}'
        unique[name] = None
    return list(unique)


class _Packed(Dataset):
    """Images as a model gets them, or the error that one raises."""

    def __init__(self, pipeline: Callable[[Image], dict], images: Sequence[Image]):
        self.pipeline, self.images = pipeline, images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Union[dict, InputError]:
        try:
            return self.pipeline(self.images[index])
        # Raised in a worker, it would come as the text of a traceback.
        except InputError as error:
            return error
        except Exception as error:  # whatever a decoder raises
            return InputError(f'{self.images[index]}: cannot be read ({error})')


def predict_samples(
    model: nn.Module, images: Sequence[Image], batch_size: Optional[int] = None,
    workers: Optional[int] = None, dtype: str = 'float32',
) -> Iterator[BaseDataElement]:
    """Predict images in batches.

    Args:
        model: From :func:`lspt_mm.apis.init_model`.
        images: Paths, or arrays (H, W, 3) uint8 RGB.
        batch_size: How many images are loaded at once. Those that have one size after the test
            pipeline go through the model together. None: as the config's ``test_dataloader``.
        workers: Processes that load the images, 0: this one. None: as the ``test_dataloader``.
        dtype: One of ``DTYPES``: precision of the forward pass, by autocast.

    Yields:
        The data sample of each image, in order, for ``task_of(model.cfg).prediction``.

    Raises:
        InputError: If an image cannot be loaded or has too few pixels for the model, or the device
            does not have ``dtype``.
        ValueError: For other arguments that are wrong.
    """
    batch_size = _batch_size(model, batch_size)
    if workers is None:
        workers = (model.cfg.get('test_dataloader') or {}).get('num_workers', 0)
    check_int('workers', workers, 0)
    precision = autocast_to(dtype, next(model.parameters()).device)
    loader = DataLoader(
        _Packed(image_pipeline(model.cfg), images), batch_size, collate_fn=list,
        num_workers=min(workers, max(len(images) - 1, 0) // batch_size),  # 0 for a single batch
    )
    return _samples(model, loader, precision, keeps_fused=dtype == 'float32')


def _batch_size(model: nn.Module, given: Optional[int]) -> int:
    """The batch size, or that of the config's tests."""
    if given is None:
        given = (model.cfg.get('test_dataloader') or {}).get('batch_size', 1)
    check_int('batch_size', given, 1)
    return given


def _samples(
    model: nn.Module, loader: DataLoader, precision: AbstractContextManager, keeps_fused: bool
) -> Iterator[BaseDataElement]:
    """The data samples of the images of a loader."""
    images = iter(loader.dataset.images)
    with torch.no_grad(), precision:
        model.backbone.fuse()
    try:
        for batch in loader:
            sizes: Dict[torch.Size, List[int]] = {}
            for place, (packed, image) in enumerate(zip(batch, images, strict=False)):
                if isinstance(packed, InputError):
                    raise packed
                check_size(model, packed, 'an array' if isinstance(image, np.ndarray) else image)
                sizes.setdefault(packed['inputs'].shape, []).append(place)
            found: List[Optional[BaseDataElement]] = [None] * len(batch)
            for places in sizes.values():
                data = pseudo_collate([batch[place] for place in places])
                with torch.no_grad(), precision:
                    samples = model.test_step(data)
                for place, sample in zip(places, samples, strict=True):
                    found[place] = sample
            yield from found
    finally:
        if not keeps_fused:  # what fuse() computed is in the precision
            model.backbone.unfuse()


def autocast_to(dtype: str, device: torch.device) -> AbstractContextManager:
    """A context for forward passes in a precision; it may be entered several times.

    Args:
        dtype: One of ``DTYPES``.
        device: Of the model.

    Raises:
        InputError: If the device does not have it.
        ValueError: If it is none of ``DTYPES``.
    """
    check_choice('dtype', dtype, DTYPES)
    if dtype == 'float32':
        return nullcontext()
    lacks = ''
    if device.type == 'cpu' and dtype == 'float16':
        lacks = 'float16 is for GPUs; expected bfloat16 or float32'
    elif device.type == 'cpu' and not (torch.backends.mkldnn.is_available()
                                       and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        lacks = 'this CPU has no instructions for it; expected float32'
    elif (device.type == 'cuda' and dtype == 'bfloat16'
          and not torch.cuda.is_bf16_supported(including_emulation=False)):
        lacks = 'this GPU has no bfloat16; expected float16 or float32'
    if lacks:
        raise InputError(f'dtype {dtype} on {device}: {lacks}')
    return torch.autocast(device.type, getattr(torch, dtype))


@any_image_size()
def predict_images(
    model: nn.Module, images: Paths, out: Union[str, Path], top: Optional[int] = None,
    progress: bool = False, batch_size: Optional[int] = None, workers: Optional[int] = None,
    dtype: str = 'float32',
) -> List[str]:
    """Predict images and write the results below ``out``, while the next ones are predicted.

    Segmentation: ``masks/NAME.png`` has numbers of classes from 0 with the classes' colours as the
    palette. ``overlays/NAME.jpg`` is the image with the classes over it and a legend.
    ``predictions.csv`` has the columns image, mask, overlay.
    Classification: ``predictions.csv`` with the columns image, rank, class, probability.

    Args:
        model: From :func:`lspt_mm.apis.init_model`.
        images: A path, a folder (searched recursively), a pattern such as ``'photos/*.jpg'``, or
            an iterable of these.
        out: Folder, made if absent. It may be a folder of images or lie in one: masks and overlays
            in it are not predicted.
        top: Classification: how many classes are listed for an image. None is the likeliest one;
            of multi-label models all with a probability of at least a half, or an empty class.
        progress: Show a bar on standard error.
        batch_size, workers, dtype: As in :func:`predict_samples`, with the same errors.

    Returns:
        A line for each image.

    Raises:
        InputError: If an image cannot be predicted or a result cannot be written;
            ``predictions.csv`` then has the images before it. If ``out`` has masks or overlays that
            are not of an earlier call.
        ValueError: If ``top`` is no integer of at least 1.
    """
    if top is not None:
        check_int('top', top, 1)
    out = Path(os.path.expanduser(out))
    images = listed(images, out=out)
    batch_size = _batch_size(model, batch_size)
    samples = predict_samples(model, images, batch_size, workers, dtype)
    check_writable(out, str(out))
    others = [name for name in WRITTEN if (out / name).exists()]
    if others and not (out / TABLE).is_file():
        raise InputError(
            f'{out}: has {others[0]}/, but no {TABLE} of an earlier prediction; expected a folder '
            'for predictions alone'
        )
    task, meta = task_of(model.cfg), model.dataset_meta

    def write(name: str, path: Path, sample: BaseDataElement) -> Tuple[str, List[tuple]]:
        prediction = task.prediction(sample)  # waits for the device, as the caller need not
        try:
            return task.write(out, name, path, prediction, meta['classes'], meta['palette'], top)
        except OSError as error:
            raise InputError(f'{out}: {name} cannot be written: {error}') from error

    lines, rows = [], []

    def keep(path: Path, written: Future) -> None:
        line, found = written.result()
        lines.append(f'{path}: {line}')
        rows.extend((path, *row) for row in found)

    todo = zip(images, names_for(images), samples, strict=True)
    bar = track(todo, 'predicting', len(images), console=Console(stderr=True), disable=not progress)
    pending: Deque[Tuple[Path, Future]] = deque()
    try:
        with closing(bar), ThreadPoolExecutor(WRITERS) as pool:
            try:
                for path, name, sample in bar:
                    pending.append((path, pool.submit(write, name, path, sample)))
                    # Predictions that wait take memory; a batch comes at once.
                    if len(pending) > batch_size + 2 * WRITERS:
                        keep(*pending.popleft())
            finally:  # those before an image that failed, too
                while pending:
                    keep(*pending.popleft())
    finally:
        # surrogateescape: the bytes of names that are no UTF-8
        with open(out / TABLE, 'w', newline='', encoding='utf-8', errors='surrogateescape') as file:
            csv.writer(file).writerows([('image', *task.columns), *rows])
    return lines
