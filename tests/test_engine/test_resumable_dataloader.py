"""Order and random numbers of training samples follow from the seed and the place in the run."""

import itertools
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset

from lspt_mm.engine.resumable_dataloader import (
    SampleIndex,
    SeededDataset,
    cycle_batches,
    make_resumable,
)
from lspt_mm.errors import InputError
from lspt_mm.utils.seed import isolate_rng, seed_iteration


class Noise(Dataset):
    """A sample is its index and one random number of each generator."""

    metainfo = {'classes': ('a', 'b')}

    def __init__(self, size=10, bad=()):
        self.size, self.bad = size, bad

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index in self.bad:
            raise InputError(f'image {index} is bad')
        return [index, random.random(), float(np.random.rand()), float(torch.rand(()))]


def loader(sampler, size=10, batch=4, seed=5, bad=(), skip_bad=0, drop_last=False, **kwargs):
    dataset = Noise(size, bad)
    sampler = sampler(dataset, shuffle=True, seed=seed)
    made = DataLoader(
        dataset, sampler=sampler, batch_size=batch, drop_last=drop_last, collate_fn=list, **kwargs
    )
    return make_resumable(made, seed, skip_bad)


def batches(count, start=0, **kwargs):
    return list(itertools.islice(cycle_batches(loader(**kwargs), start), count))


@pytest.mark.parametrize('sampler', [InfiniteSampler, DefaultSampler])
@pytest.mark.parametrize('start', [1, 2, 3, 4, 7])
def test_from_any_batch_on(sampler, start):
    whole = batches(10, sampler=sampler)
    assert batches(10 - start, start, sampler=sampler) == whole[start:]


@pytest.mark.parametrize('sampler', [InfiniteSampler, DefaultSampler])
def test_indices_are_the_samplers(sampler):
    found = [[s[0] for s in b] for b in batches(6, sampler=sampler)]
    own = sampler(Noise(), shuffle=True, seed=5)
    if sampler is InfiniteSampler:
        stream = iter(own)
    else:
        stream = itertools.chain.from_iterable(
            [own.set_epoch(epoch), list(own)][1] for epoch in range(3)
        )
    flat = list(itertools.chain.from_iterable(found))
    assert flat == list(itertools.islice(stream, len(flat)))
    sizes = [len(b) for b in found]
    assert sizes == ([4] * 6 if sampler is InfiniteSampler else [4, 4, 2] * 2)


@pytest.mark.parametrize('workers', [1, 3])
def test_workers_change_nothing(workers):
    here = batches(8, sampler=InfiniteSampler)
    assert here == batches(8, sampler=InfiniteSampler, num_workers=workers)
    assert here != batches(8, sampler=InfiniteSampler, seed=6)


@pytest.mark.slow
@pytest.mark.parametrize('context', ['spawn', 'forkserver'])
def test_start_methods_change_nothing(context):
    options = dict(sampler=DefaultSampler, num_workers=1, multiprocessing_context=context)
    assert batches(3, **options) == batches(3, sampler=DefaultSampler)


def test_every_sample_has_random_numbers_of_its_own():
    samples = [s for b in batches(10, sampler=InfiniteSampler) for s in b]
    for column in (1, 2, 3):
        assert len({s[column] for s in samples}) == len(samples) == 40
    # Python's, NumPy's and PyTorch's streams are not one another's.
    assert not {s[1] for s in samples} & {s[2] for s in samples}


def test_processes_share_the_samples_of_one(monkeypatch):
    from lspt_mm.engine import resumable_dataloader as data_order

    def of(rank, processes, batch):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, processes))
        monkeypatch.setattr(data_order, 'get_dist_info', lambda: (rank, processes))
        return batches(6, sampler=InfiniteSampler, batch=batch)

    whole = of(0, 1, 4)
    for processes in (2, 4):
        parts = [of(rank, processes, 4 // processes) for rank in range(processes)]
        for number, batch in enumerate(whole):
            assert sorted(batch) == sorted(s for part in parts for s in part[number])


def test_the_main_process_draws_as_if_nothing_was_loaded():
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    untouched = torch.rand(2).tolist(), np.random.rand(), random.random()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    dataset = SeededDataset(Noise(), 5)
    dataset[SampleIndex(1, 0, 0)]
    assert (torch.rand(2).tolist(), np.random.rand(), random.random()) == untouched


def test_it_is_still_the_data_set():
    dataset = SeededDataset(Noise(), 5)
    assert dataset.metainfo == Noise.metainfo and len(dataset) == 10 and dataset[3][0] == 3
    with pytest.raises(AttributeError, match='nothing'):
        dataset.nothing  # noqa: B018
    made = loader(DefaultSampler, batch=3)
    assert (made.batch_size, len(made)) == (3, 4)  # hooks ask for it


def test_custom_batch_samplers():
    dataset = Noise()
    pairs = BatchSampler(DefaultSampler(dataset, shuffle=False), 2, drop_last=True)
    made = make_resumable(DataLoader(dataset, batch_sampler=pairs, collate_fn=list), 0)
    assert [s[0] for s in next(cycle_batches(made, 7))] == [4, 5]


def test_iterations_draw_by_their_number():
    def draw(*place):
        seed_iteration(*place)
        return torch.rand(()).item(), np.random.rand(), random.random()

    places = [(0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0)]
    assert len({draw(*p) for p in places}) == 4 and draw(*places[1]) == draw(*places[1])


def test_own_random_state_leaves_no_trace():
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    with isolate_rng(9):
        inside = torch.rand(()).item(), np.random.rand(), random.random()
    behind = torch.rand(()).item(), np.random.rand(), random.random()
    torch.manual_seed(3), np.random.seed(3), random.seed(3)
    assert behind == (torch.rand(()).item(), np.random.rand(), random.random()) != inside


# ---- bad files --------------------------------------------------------------------------------


@pytest.mark.parametrize('workers', [0, pytest.param(2, marks=pytest.mark.slow)])
def test_bad_files_end_the_run_or_are_passed_over(workers):
    options = dict(sampler=DefaultSampler, bad=(2, 3), num_workers=workers)
    with pytest.raises(InputError, match='image [23] is bad'):
        batches(3, **options)
    passed = batches(9, **options, skip_bad=2)[:3]  # each file counts once, in all epochs
    indices = sorted(s[0] for b in passed for s in b)
    assert indices == [0, 1, 4, 4, 4, 5, 6, 7, 8, 9]  # the next good one in their place
    if workers:  # a worker's error comes as a text
        return
    with pytest.raises(InputError, match='number 2; skip_bad=1 allows no more'):
        batches(3, **options, skip_bad=1)


def test_more_bad_files_than_are_skipped():
    dataset = make_resumable(DataLoader(Noise(6, range(5)), batch_size=1), 0, 1).dataset
    for _ in range(3):  # as in other workers, which do not know that the run ends
        with pytest.raises(InputError, match='number 2; skip_bad=1 allows no more'):
            dataset[SampleIndex(0, 0, 0)]


def test_nothing_can_be_read():
    with pytest.raises(InputError, match='no sample of the training data can be read'):
        batches(1, sampler=DefaultSampler, bad=range(10), skip_bad=99)


def test_a_batch_that_is_larger_than_the_data():
    with pytest.raises(InputError, match='fewer images than one batch'):
        batches(1, sampler=DefaultSampler, batch=11, drop_last=True)


def test_what_has_no_places():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(3))

    with pytest.raises(InputError, match='batch_size=None'):
        make_resumable(DataLoader(Noise(), batch_size=None), 0)
    with pytest.raises(InputError, match='without indices'):
        make_resumable(DataLoader(Stream()), 0)
