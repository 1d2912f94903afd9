"""Hyper-parameters, resolved by data set, pre-training and method."""

from lspt_mm.recipes.experiment import BENCHMARKS, Cell, resolve
from lspt_mm.recipes.folders import classes_of, masks_of
from lspt_mm.recipes.grids import default_grid
from lspt_mm.recipes.mask_folder import resolve_masks
from lspt_mm.recipes.methods import METHODS
from lspt_mm.recipes.pretrainings import PRETRAININGS

__all__ = [
    'BENCHMARKS', 'Cell', 'METHODS', 'PRETRAININGS', 'classes_of', 'default_grid', 'masks_of',
    'resolve', 'resolve_masks',
]  # fmt: skip
