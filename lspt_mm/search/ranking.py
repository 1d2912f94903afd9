"""Mean ranks of methods over tasks, with intervals by a paired bootstrap."""

from typing import Dict, List, Mapping, NamedTuple, Sequence

import numpy as np

from lspt_mm.errors import InputError

#: Means that differ by less are equal; those of a thousand images differ by 0.03 or more. Per cent.
TOLERANCE = 1e-3
#: Task to method to the scores of the seeds, in one order for all methods.
Scores = Mapping[str, Mapping[str, Sequence[float]]]


class Rank(NamedTuple):
    """Mean rank of a method.

    Attributes:
        mean: 1 is best.
        low: Lower end of its 95 % interval.
        high: Upper end.
        gap: Difference to the mean rank of the first method.
        gap_error: Standard error of this difference, over the same draws for both methods, times
            sqrt(T / (T - 1)) of T tasks, as draws of few tasks vary too little.
    """

    mean: float
    low: float
    high: float
    gap: float
    gap_error: float


def mean_ranks(scores: Scores, draws: int = 10_000, seed: int = 0) -> Dict[str, Rank]:
    """Rank methods by their mean score on each task, and average over tasks.

    A draw takes as many tasks as there are, with replacement, and for each of them as many seeds,
    the same for all methods. Scores within ``TOLERANCE`` share the mean of their ranks.

    Args:
        scores: All methods with equally many seeds of a task.
        draws: Number of bootstrap draws.
        seed: Of the draws.

    Returns:
        dict: Method to its rank, best first.

    Raises:
        InputError: If a task lacks a method, or a method a seed.
    """
    methods = list(next(iter(scores.values()))) if scores else []
    tables: List[np.ndarray] = []  # methods x seeds
    for task, by_method in scores.items():
        counts = {method: len(values) for method, values in by_method.items()}
        if set(counts) != set(methods) or len(set(counts.values())) != 1:
            raise InputError(
                f'{task}: seeds by method are {counts}; expected {sorted(methods)} with equally '
                'many seeds'
            )
        tables.append(np.array([by_method[method] for method in methods], float))
    if not tables:
        return {}
    rng = np.random.default_rng(seed)
    drawn = np.zeros((draws, len(methods)))
    for place in rng.integers(len(tables), size=(draws, len(tables))).T:
        for i, table in enumerate(tables):
            those = np.flatnonzero(place == i)
            seeds = rng.integers(table.shape[1], size=(len(those), table.shape[1]))
            drawn[those] += _ranks(table[:, seeds].mean(-1).T)
    drawn /= len(tables)
    found = np.mean([_ranks(table.mean(1)[None])[0] for table in tables], axis=0)
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    first = found.argmin()
    gap_error = (drawn - drawn[:, [first]]).std(0)
    if len(tables) > 1:
        gap_error *= (len(tables) / (len(tables) - 1)) ** 0.5
    ranks = {
        method: Rank(*map(float, row))
        for method, row in zip(
            methods, np.stack((found, low, high, found - found[first], gap_error), 1), strict=True
        )
    }
    return dict(sorted(ranks.items(), key=lambda item: item[1].mean))


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks in each row of (n, methods), 1 for the highest score."""
    over = scores[:, None, :] - scores[:, :, None]  # of the last axis over the one before
    equal = (abs(over) <= TOLERANCE).sum(-1)
    return 1 + (over > TOLERANCE).sum(-1) + (equal - 1) / 2
