"""Seed random numbers by position in the run, independent of earlier draws."""

import random
from contextlib import contextmanager
from typing import Iterator

import numpy as np
import torch

#: Purposes of a seed: the same numbers give different random numbers for each.
SAMPLE, ITERATION = 1, 2


@contextmanager
def isolate_rng(seed: int) -> Iterator[None]:
    """Seed all generators inside the block, and restore their states after it."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with restore_rng(), torch.random.fork_rng(devices):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        yield


@contextmanager
def restore_rng() -> Iterator[None]:
    """Restore the generators of Python, NumPy and PyTorch (CPU) after the block."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def seed_sample(seed: int, epoch: int, position: int) -> None:
    """Seed the CPU's generators for one sample.

    Args:
        seed: Seed of the run.
        epoch: Number of the pass over the data.
        position: Position of the sample in that pass, over all processes.
    """
    torch.default_generator.manual_seed(_seed_python_and_numpy(seed, SAMPLE, epoch, position))


def seed_iteration(seed: int, iteration: int, rank: int) -> None:
    """Seed all generators, GPUs' too, for one training iteration of one process."""
    torch.manual_seed(_seed_python_and_numpy(seed, ITERATION, iteration, rank))


def _seed_python_and_numpy(*numbers: int) -> int:
    """Seed Python and NumPy from numbers; returns a seed (63 bits) for the next generator."""
    words = [int(word) for word in np.random.SeedSequence(numbers).generate_state(6)]
    random.seed(words[0] << 32 | words[1])
    np.random.seed(words[2:4])
    return (words[4] << 32 | words[5]) >> 1
