"""Points of a grid, their names, and which one is best."""

import itertools
import math
import re
from collections import Counter
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

from lspt_mm.errors import InputError

Point = Dict[str, Any]


def expand_grid(grid: Mapping[str, Sequence[Any]]) -> List[Point]:
    """The product of the grid's values, the last name changing fastest.

    Raises:
        InputError: For a name without values, for two points that would have one folder, for a
            learning rate that is not a number, and for seeds, which must not be chosen.
    """
    for name, values in grid.items():
        if not values:
            raise InputError(f'grid: {name} has no values')
        if name.split('.')[0] == 'randomness':
            raise InputError(f'grid: {name}: seeds are not searched; see --seeds')
        for value in values:
            if is_learning_rate(name) and type(value) not in (int, float):
                raise InputError(f'grid: {name}={value!r}: expected a number')
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    for name, count in Counter(map(name_of, points)).items():
        if count > 1:
            raise InputError(f'grid: {count} points are {name}; expected different ones')
    return points


def name_of(point: Mapping[str, Any]) -> str:
    """A name for a point that can be a folder's, such as ``lr=0.1,weight_decay=0``."""
    text = ','.join(f'{name}={_text(value)}' for name, value in point.items()) or 'as-it-is'
    return re.sub(r'[^\w=.,+-]', '_', text)


def _text(value: Any) -> str:
    return f'{value:.12g}' if isinstance(value, float) else str(value)


class Outcome(NamedTuple):
    """A point and its accuracy on validation data, in per cent."""

    point: Point
    accuracy: float


def best(outcomes: Sequence[Outcome], tolerance: float = 0.0) -> Outcome:
    """The outcome of the highest accuracy; ties go to the smaller learning rate.

    VPT breaks ties this way (arXiv 2203.12119). Further ties go by the grid's order. A run that
    diverged (NaN) never wins against one that did not. Accuracies within ``tolerance`` of the
    highest are equal to it.
    """
    scores = [-math.inf if math.isnan(one.accuracy) else one.accuracy for one in outcomes]
    least = max(scores) - tolerance
    equal = [one for one, score in zip(outcomes, scores, strict=True) if score >= least]
    return min(equal, key=lambda one: learning_rate(one.point))  # min keeps the first of equals


def learning_rate(point: Mapping[str, Any]) -> float:
    """The point's learning rate; 0 where the grid has none, so that it decides nothing."""
    for name, value in point.items():
        if is_learning_rate(name):
            return float(value)
    return 0.0


def is_learning_rate(name: str) -> bool:
    """Whether a name of a grid is that of the optimizer's learning rate."""
    return name == 'lr' or name.endswith('optimizer.lr')
