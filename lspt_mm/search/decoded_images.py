"""Images of the data, decoded once for all runs of a process."""

import copy
import hashlib
import pickle
from importlib.util import find_spec
from typing import Callable, Dict, Iterable, Iterator, List

import mmcv.transforms
import mmpretrain.datasets.transforms
import numpy as np
from mmengine.dataset import BaseDataset, Compose
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from lspt_mm.datasets.transforms import LoadImage
from lspt_mm.utils.cache import digest_samples

#: Memory of the images that a process keeps, in bytes: once it is full, others are decoded.
LIMIT = 2 << 30
#: Transforms without random numbers; a subclass may draw some.
_FIXED = (
    LoadImage, mmcv.transforms.LoadImageFromFile, mmcv.transforms.LoadAnnotations,
    mmcv.transforms.Resize, mmcv.transforms.CenterCrop,
    mmpretrain.datasets.transforms.CenterCrop, mmpretrain.datasets.transforms.ResizeEdge,
)
if find_spec('mmseg') is not None:  # classification needs none of it
    from mmseg.datasets.transforms import LoadAnnotations

    from lspt_mm.datasets.seg_transforms import LoadSegLabels

    _FIXED += (LoadAnnotations, LoadSegLabels)


class DecodedImages(Hook):
    """Keeps what the first transforms of a pipeline make of each image, for all later epochs.

    These are the transforms without random numbers: they load, decode and resize. Those after
    them run each time, with the same random numbers as without this hook. An image is decoded
    again if its file, its entry in the data set, or one of these transforms differs.

    Data loaders with worker processes are left as they are, as each worker would keep its own.

    Args:
        kept: Where to keep images, the same object for all runs of a process.
    """

    priority = 'VERY_LOW'  # after hooks that look at the pipeline

    def __init__(self, kept: 'KeptImages'):
        self.kept = kept

    def before_train(self, runner) -> None:  # noqa: D102
        self._share(runner.train_dataloader)
        if runner.val_loop is not None:
            self._share(runner.val_loop.dataloader)

    def before_test(self, runner) -> None:  # noqa: D102
        self._share(runner.test_loop.dataloader)

    def _share(self, loader: DataLoader) -> None:
        for dataset in leaves(loader.dataset) if loader.num_workers == 0 else ():
            pipeline = getattr(dataset, 'pipeline', None)
            steps = pipeline.transforms if isinstance(pipeline, Compose) else []
            count = next((i for i, one in enumerate(steps) if type(one) not in _FIXED), len(steps))
            if count:
                steps[:count] = [_Once(steps[:count], self.kept)]


def leaves(dataset) -> Iterator[BaseDataset]:
    """The data sets that read images, inside wrappers such as ``ConcatDataset``."""
    inner = vars(dataset).get('datasets') or [vars(dataset).get('dataset')]
    if inner[0] is None:
        yield dataset
    for one in inner if inner[0] is not None else ():
        yield from leaves(one)


class KeptImages:
    """Results of pipelines by what they follow from.

    Args:
        limit: Memory of all arrays in bytes.
    """

    def __init__(self, limit: int = LIMIT):
        self.room = limit
        self._results: Dict[bytes, dict] = {}

    def get(self, key: bytes, compute: Callable[[], dict]) -> dict:
        """A copy of the result, which the caller may change; computed if it is not here."""
        if key in self._results:
            return copy.deepcopy(self._results[key])
        result = compute()
        size = sum(_sizes(result.values()))
        if size <= self.room:
            self.room -= size
            self._results[key] = copy.deepcopy(result)
        return result


def _sizes(values: Iterable) -> Iterable[int]:
    return (value.nbytes for value in values if isinstance(value, np.ndarray))


class _Once:
    """Applies transforms to an entry of a data set that is not kept yet."""

    def __init__(self, steps: List[Callable[[dict], dict]], kept: KeptImages):
        self.apply, self.kept = Compose(steps), kept
        self.settings = pickle.dumps(steps)

    def __call__(self, results: dict) -> dict:
        """The result of the transforms for an entry."""
        digest = hashlib.sha256(self.settings + pickle.dumps(results))
        digest_samples(digest, [results])
        return self.kept.get(digest.digest(), lambda: self.apply(results))
