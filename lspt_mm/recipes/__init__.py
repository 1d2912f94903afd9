"""Hyper-parameters of the classification benchmarks, resolved by data set, pre-training, method."""

from lspt_mm.recipes.cells import BENCHMARKS, Cell, resolve
from lspt_mm.recipes.folders import classes_of
from lspt_mm.recipes.grids import grid_of
from lspt_mm.recipes.methods import METHODS
from lspt_mm.recipes.pretrainings import PRETRAININGS

__all__ = [
    'BENCHMARKS', 'Cell', 'METHODS', 'PRETRAININGS', 'classes_of', 'grid_of', 'resolve',
]  # fmt: skip
