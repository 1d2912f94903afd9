"""Resumable data loader: starts at any batch, and seeds each sample by its position in the run.

With PyTorch's own loader the augmentation of an image depends on the images before it, on the
number of workers, and on how long the process has been running. Here the random numbers of a sample
depend only on (seed, epoch, position), for any number of workers.
"""

import hashlib
import itertools
import multiprocessing
from typing import Any, Iterator, List, NamedTuple

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info
from mmengine.logging import print_log
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from lspt_mm.errors import InputError
from lspt_mm.utils.seed import restore_rng, seed_sample


class SampleIndex(NamedTuple):
    """Index of a sample in the data set, and its position in the run."""

    index: int
    epoch: int
    position: int


class ResumableBatchSampler(Sampler):
    """A batch sampler that starts at any batch and gives each sample its position in the run.

    Args:
        batch_sampler: Yields lists of indices of this process, the same ones for the same epoch.
            A sampler with more state than ``seed`` and ``set_epoch`` cannot be resumed.
    """

    def __init__(self, batch_sampler):
        self.batch_sampler = batch_sampler
        self.epoch = 0
        self.skipped = 0

    @property
    def sampler(self):
        """The sampler of indices."""
        return self.batch_sampler.sampler

    @property
    def infinite(self) -> bool:
        """Whether one pass never ends, as with MMEngine's ``InfiniteSampler``."""
        return isinstance(self.sampler, InfiniteSampler)

    def start_at(self, epoch: int, batches: int) -> None:
        """Make the next pass number ``epoch``, without its first ``batches`` batches."""
        self.epoch, self.skipped = epoch, batches
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[List[SampleIndex]]:
        """Yield the batches of this process."""
        rank, processes = get_dist_info()
        drawn = 0
        for number, batch in enumerate(self.batch_sampler):
            if number >= self.skipped:
                yield [
                    SampleIndex(index, self.epoch, (drawn + i) * processes + rank)
                    for i, index in enumerate(batch)
                ]
            drawn += len(batch)

    def __len__(self) -> int:
        """Number of batches of a pass."""
        return len(self.batch_sampler)


class SeededDataset(Dataset):
    """Seeds each sample of a data set by its position in the run.

    It is indexed by a :class:`SampleIndex`, or by an integer for the plain sample. All other
    attributes are those of the data set.

    Args:
        dataset: The data set.
        seed: Seed of the run.
        skip_bad: Number of unreadable files to replace by the next sample, each with a warning.
        context: The loader's ``multiprocessing_context``, which starts its workers.

    Raises:
        InputError: When indexed, if there are more unreadable files than ``skip_bad``.
    """

    def __init__(self, dataset: Dataset, seed: int, skip_bad: int = 0, context=None):
        self.dataset = dataset
        self.seed = seed
        self.skip_bad = skip_bad
        # Hashes of their names, shared by all workers.
        self._skipped = (context or multiprocessing).Array('Q', max(1, skip_bad))

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset':  # during unpickling
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, index):
        """The sample of a :class:`SampleIndex`, or of an integer."""
        if not isinstance(index, SampleIndex):
            return self.dataset[index]
        with restore_rng():
            for further in range(len(self)):
                seed_sample(self.seed, index.epoch, index.position)
                number = (index.index + further) % len(self)
                try:
                    return self.dataset[number]
                except (InputError, OSError) as error:
                    self._skip(number, error)
        raise InputError('no sample of the training data can be read')

    def _skip(self, number: int, error: Exception) -> None:
        """Count a bad file once, however often it comes, or raise its error."""
        if not self.skip_bad:
            raise error
        try:  # wrappers may repeat it
            name = str(self.dataset.get_data_info(number)['img_path'])
        except (AttributeError, KeyError, TypeError):
            name = str(number)
        name = name.encode(errors='surrogateescape')
        digest = int.from_bytes(hashlib.sha256(name).digest()[:8], 'big') | 1
        with self._skipped.get_lock():
            known = [one for one in self._skipped if one]
            if digest in known:
                return
            count = len(known) + 1
            if count <= self.skip_bad:
                self._skipped[len(known)] = digest
        if count > self.skip_bad:
            raise InputError(
                f'{error} (bad file number {count}; skip_bad={self.skip_bad} allows no more)'
            ) from error
        print_log(f'bad file {count} of at most {self.skip_bad} skipped: {error}', 'current')


def make_resumable(loader: DataLoader, seed: int, skip_bad: int = 0) -> DataLoader:
    """Rebuild a loader with a :class:`ResumableBatchSampler` and a :class:`SeededDataset`.

    Raises:
        InputError: If the loader makes no batches, so that samples have no position.
    """
    if loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
        raise InputError(
            'train_dataloader: batch_size=None, or a data set without indices, cannot be resumed; '
            "use MMEngine's own training loop for it"
        )
    same = {
        name: getattr(loader, name)
        for name in (
            'num_workers', 'collate_fn', 'pin_memory', 'timeout', 'multiprocessing_context',
            'generator', 'prefetch_factor', 'persistent_workers', 'worker_init_fn',
        )
    }
    result = DataLoader(
        SeededDataset(loader.dataset, seed, skip_bad, loader.multiprocessing_context),
        batch_sampler=ResumableBatchSampler(loader.batch_sampler),
        **same,
    )
    # mmpretrain's PreciseBN hook reads it; DataLoader does not allow it to be set.
    result.__dict__['batch_size'] = loader.batch_size
    return result


def cycle_batches(loader: DataLoader, iteration: int) -> Iterator[Any]:
    """Yield batches of an iteration-based run from ``iteration`` on, over repeated passes."""
    sampler = loader.batch_sampler
    per_pass = None if sampler.infinite else len(sampler)
    if per_pass == 0:
        raise InputError('train_dataloader: fewer images than one batch, and drop_last is set')
    first, skipped = divmod(iteration, per_pass) if per_pass else (0, iteration)
    for epoch in itertools.count(first):
        sampler.start_at(epoch, skipped)
        yield from loader
        skipped = 0
