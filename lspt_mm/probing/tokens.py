"""Tokens that enter the first block with prompts, computed once and kept in a file.

The blocks before are the frozen ViT without prompts. For images that are loaded without random
numbers, their output is the same in every epoch.
"""

import itertools
import shutil
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

import mmcv.transforms
import mmpretrain.datasets.transforms
import numpy as np
import torch
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.logging import print_log
from torch import Tensor, nn

from lspt_mm.checkpoints.records import fingerprint
from lspt_mm.datasets.transforms import LoadImage
from lspt_mm.errors import InputError
from lspt_mm.models.prompted_backbone import PromptedBackbone
from lspt_mm.probing.features import Rows, cached, items
from lspt_mm.utils.cache import CACHE, cache_folder

#: Transforms without random numbers; a subclass may draw some.
DETERMINISTIC = (
    LoadImage, mmcv.transforms.LoadImageFromFile, mmcv.transforms.Resize,
    mmcv.transforms.CenterCrop, mmpretrain.datasets.transforms.CenterCrop,
    mmpretrain.datasets.transforms.ResizeEdge,
)  # fmt: skip


class KeptTokens(NamedTuple):
    """The tokens of a data set's images.

    Attributes:
        path: File of the array, (number of images, E+N, D) float32.
        size: Height and width of the images that enter the ViT.
        difference: Largest difference between the tokens of a batch and those of its images one
            by one. 0 means that tokens do not depend on the batch: they are those of any epoch.
    """

    path: str
    size: Tuple[int, int]
    difference: float


class ReadTokens:
    """A pipeline that reads an image's kept tokens in place of the image.

    Its items have ``tokens`` (E+N, D), ``part``, and ``inputs`` of one pixel. Data samples have
    labels and path, but no sizes of images.

    Args:
        path: File of the tokens.
        part: Name that the items carry.
        pack: The last transform of the pipeline in whose place it is.
    """

    def __init__(self, path: str, part: str, pack: Callable[[dict], dict]):
        self.path, self.part, self.pack = path, part, pack

    def __call__(self, results: dict) -> dict:
        """Read the tokens of a data set's entry."""
        # Opened for each image: a worker process would get a copy of the array.
        tokens = np.load(self.path, mmap_mode='r')[results['sample_idx']]
        packed = self.pack({**results, 'img': np.zeros((1, 1, 3), np.uint8)})
        return {**packed, 'tokens': torch.from_numpy(tokens.copy()), 'part': self.part}


def check_deterministic(dataset: BaseDataset) -> None:
    """Raise InputError unless a data set's pipeline draws no random numbers.

    Known are the transforms in ``DETERMINISTIC``, and mmpretrain's ``PackInputs`` as the last.
    """
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', None)
    if not transforms or type(transforms[-1]) is not mmpretrain.datasets.transforms.PackInputs:
        raise InputError(f'the pipeline of {type(dataset).__name__} does not end in PackInputs')
    for transform in transforms[:-1]:
        if type(transform) not in DETERMINISTIC:
            known = ', '.join(sorted({one.__name__ for one in DETERMINISTIC}))
            raise InputError(
                f'the transform {type(transform).__name__} may draw random numbers, so that an '
                f'image differs from epoch to epoch; expected only {known}'
            )


def keep_tokens(
    data: BaseDataset, model: nn.Module, settings: Any, batch_size: int, workers: int = 0
) -> KeptTokens:
    """Compute the tokens that enter block ``start_block``, or find them in the cache.

    They are computed in batches, in the model's mode and under the caller's autocast.

    Args:
        data: With a pipeline that passes :func:`check_deterministic`.
        model: With a ``PromptedBackbone`` whose first blocks are frozen.
        settings: What the images depend on beside their files, as JSON or text.
        batch_size: How many images at once.
        workers: Processes that load images.

    Raises:
        InputError: If an image cannot be read, images differ in size, the first blocks draw random
            numbers, or the disk has too little space.
    """
    vit, preprocessor = model.backbone, model.data_preprocessor
    depth = vit.prompter.start_block - 1
    known: List[Tuple[int, int]] = []

    def tokens_of(batch: Sequence[dict]) -> Tensor:
        sizes = {tuple(item['inputs'].shape[-2:]) for item in batch} | {*known[:1]}
        if len(sizes) > 1:
            shown = ' and '.join(f'{w}x{h}' for h, w in sorted(sizes)[:2])
            raise InputError(
                f'images of {shown} (width x height): how they are padded depends on the batch; '
                'expected a pipeline that makes them equal, such as Resize or CenterCrop'
            )
        known.extend(sizes - {*known})
        return vit.early(_images(preprocessor, batch), depth).embedded.tokens

    def compute() -> Dict[str, Any]:
        loaded = items(data, range(len(data)), workers)
        batch = list(itertools.islice(loaded, batch_size))
        first = tokens_of(batch)
        if not torch.equal(first, tokens_of(batch)):
            raise InputError('the frozen blocks give other tokens for the same images')
        if first.dtype != torch.float32:
            raise InputError(f'tokens are {first.dtype}, expected torch.float32')
        alone = torch.cat([tokens_of([item]) for item in batch])
        shape = (len(data), *first.shape[1:])
        _check_space(shape)

        def parts() -> Iterator[np.ndarray]:
            yield first.cpu().numpy()
            while more := list(itertools.islice(loaded, batch_size)):
                yield tokens_of(more).cpu().numpy()

        return dict(
            size=np.array(_images(preprocessor, batch[:1]).shape[-2:]),
            difference=np.array(float((first - alone).abs().max())),
            tokens=Rows(shape, np.dtype('f4'), parts()),
        )

    settings = ['tokens', settings, *_settings(vit, preprocessor), depth, batch_size]
    samples = (data.get_data_info(i) for i in range(len(data)))
    with torch.set_grad_enabled(vit.training):  # as the model runs in this mode
        arrays = cached(settings, samples, compute)
    return KeptTokens(
        str(arrays['tokens'].filename), tuple(arrays['size'].tolist()), float(arrays['difference'])
    )


def _images(preprocessor: nn.Module, batch: Sequence[dict]) -> Tensor:
    """Images of a batch as they enter the ViT, (B, 3, H, W)."""
    return preprocessor(pseudo_collate(list(batch)), False)['inputs']


def _settings(vit: PromptedBackbone, preprocessor: nn.Module) -> list:
    """All that the tokens of an image depend on: weights, precision and the kernels in use."""
    kind = next(vit.parameters()).device.type
    processor = torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()
    if kind == 'cuda':
        processor = torch.cuda.get_device_name(), str(torch.version.cuda)
    precision = str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else ''
    return [
        type(vit).__name__, fingerprint(vit.own_tensors()), vit.training,
        fingerprint(dict(preprocessor.named_buffers())), precision, processor,
    ]  # fmt: skip


def _check_space(shape: Tuple[int, ...]) -> None:
    """Log the size of an array of float32, and raise InputError if the disk lacks the space."""
    folder, size = cache_folder(), 4 * int(np.prod(shape))
    print_log(f'keeping tokens of {shape[0]} images: {size / 1e6:,.1f} MB in {folder}', 'current')
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if size > free:
        raise InputError(
            f'the tokens of {shape[0]} images take {size / 1e9:,.1f} GB, and {folder} has '
            f'{free / 1e9:,.1f} GB left; to use another folder, set {CACHE}'
        )


def leaves(dataset) -> Iterator[BaseDataset]:
    """The data sets that read images, inside wrappers such as ``ConcatDataset``."""
    inner = vars(dataset).get('datasets') or [vars(dataset).get('dataset')]
    if inner[0] is None:
        yield dataset
    for one in inner if inner[0] is not None else ():
        yield from leaves(one)
