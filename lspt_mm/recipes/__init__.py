"""Hyper-parameters, resolved by data set, pre-training and method."""

from lspt_mm.recipes.ade20k import resolve_ade20k_run
from lspt_mm.recipes.experiment import BENCHMARKS, Experiment, experiment_in, resolve_experiment
from lspt_mm.recipes.folders import images_of, masks_of
from lspt_mm.recipes.grids import default_grid
from lspt_mm.recipes.mask_folder import resolve_mask_run
from lspt_mm.recipes.methods import METHODS
from lspt_mm.recipes.pretrainings import PRETRAININGS

__all__ = [
    'BENCHMARKS', 'Experiment', 'METHODS', 'PRETRAININGS', 'default_grid', 'experiment_in',
    'images_of', 'masks_of', 'resolve_ade20k_run', 'resolve_experiment', 'resolve_mask_run',
]  # fmt: skip
