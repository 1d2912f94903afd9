"""A training loader that can begin anywhere, and whose samples do not depend on who drew before.

A loader of PyTorch's draws random numbers as it goes: what augmentation an image gets depends on
the images before it, on the number of workers, and on how long the process has been running. Here
every sample has a place in the run, and its random numbers follow from the seed and that place.
"""

import itertools
import multiprocessing
from typing import Any, Iterator, List, NamedTuple

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info
from mmengine.logging import print_log
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from lspt_mm.errors import InputError
from lspt_mm.utils.seed import restore_rng, seed_sample


class Draw(NamedTuple):
    """One sample to be drawn: which one, and its place in the run."""

    index: int
    epoch: int
    position: int


class ResumableBatchSampler(Sampler):
    """A batch sampler's batches from any place on, every sample with its place.

    Args:
        batch_sampler: Gives lists of indices of this process, the same ones whenever it is asked
            for an epoch; samplers with state of their own beyond ``seed`` and ``set_epoch`` cannot
            be taken up in the middle.
    """

    def __init__(self, batch_sampler):
        self.batch_sampler = batch_sampler
        self.epoch = 0
        self.skipped = 0

    @property
    def sampler(self):
        """What gives the indices."""
        return self.batch_sampler.sampler

    @property
    def endless(self) -> bool:
        """Whether one pass goes on for ever, as MMEngine's ``InfiniteSampler`` does."""
        return getattr(self.sampler, 'endless', isinstance(self.sampler, InfiniteSampler))

    def start_at(self, epoch: int, batches: int) -> None:
        """Let the next pass be number ``epoch`` and begin behind so many batches."""
        self.epoch, self.skipped = epoch, batches
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[List[Draw]]:
        """Batches of this process."""
        rank, processes = get_dist_info()
        drawn = 0
        for number, batch in enumerate(self.batch_sampler):
            if number >= self.skipped:
                yield [
                    Draw(index, self.epoch, (drawn + i) * processes + rank)
                    for i, index in enumerate(batch)
                ]
            drawn += len(batch)

    def __len__(self) -> int:
        """Batches of a whole pass."""
        return len(self.batch_sampler)


class SeededDataset(Dataset):
    """A data set whose samples get random numbers of their own.

    Indexed with a :class:`Draw`; with an integer it is the data set itself. Everything else is
    that data set's too.

    Args:
        dataset: The data set.
        seed: The run's.
        skip_bad: How many bad files may be passed over, each with a warning, for the next sample.

    Raises:
        InputError: By indexing, for a bad file more than that.
    """

    def __init__(self, dataset: Dataset, seed: int, skip_bad: int = 0):
        self.dataset = dataset
        self.seed = seed
        self.skip_bad = skip_bad
        self._skipped = multiprocessing.Value('i', 0)  # of all workers of a loader

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset':  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.dataset)

    def __getitem__(self, draw):
        """The sample of a draw, or of an index as the data set gives it."""
        if not isinstance(draw, Draw):
            return self.dataset[draw]
        with restore_rng():
            for further in range(len(self)):
                seed_sample(self.seed, draw.epoch, draw.position)
                try:
                    return self.dataset[(draw.index + further) % len(self)]
                except (InputError, OSError) as error:
                    self._pass_over(error)
        raise InputError('no sample of the training data can be read')

    def _pass_over(self, error: Exception) -> None:
        """Count a bad file, or raise its error."""
        if not self.skip_bad:
            raise error
        with self._skipped.get_lock():
            self._skipped.value += 1
            count = self._skipped.value
        if count > self.skip_bad:
            raise InputError(
                f'{error} (bad file number {count}; skip_bad={self.skip_bad} allows no more)'
            ) from error
        print_log(f'bad file {count} of at most {self.skip_bad} passed over: {error}', 'current')


def resumable(loader: DataLoader, seed: int, skip_bad: int = 0) -> DataLoader:
    """The same loader with a :class:`ResumableBatchSampler` and a :class:`SeededDataset` in it.

    Raises:
        InputError: If the loader does not make batches, so that nothing has a place.
    """
    if loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
        raise InputError(
            'train_dataloader: batch_size=None, or a data set without indices, cannot be resumed '
            "in the middle; use MMEngine's own training loop for it"
        )
    same = {
        name: getattr(loader, name)
        for name in (
            'num_workers', 'collate_fn', 'pin_memory', 'timeout', 'multiprocessing_context',
            'generator', 'prefetch_factor', 'persistent_workers', 'worker_init_fn',
        )
    }  # fmt: skip
    made = DataLoader(
        SeededDataset(loader.dataset, seed, skip_bad),
        batch_sampler=ResumableBatchSampler(loader.batch_sampler),
        **same,
    )
    # Some hooks ask for it (mmpretrain's PreciseBN); DataLoader allows no setting.
    made.__dict__['batch_size'] = loader.batch_size
    return made


def endless_batches(loader: DataLoader, iteration: int) -> Iterator[Any]:
    """The batches of a run of iterations from ``iteration`` on, pass behind pass."""
    order = loader.batch_sampler
    per_pass = None if order.endless else len(order)
    if per_pass == 0:
        raise InputError('train_dataloader: fewer images than one batch, and drop_last is set')
    first, skipped = divmod(iteration, per_pass) if per_pass else (0, iteration)
    for epoch in itertools.count(first):
        order.start_at(epoch, skipped)
        yield from loader
        skipped = 0
