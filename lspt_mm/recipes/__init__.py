"""Hyper-parameters, resolved by data set, pre-training and method."""

from lspt_mm.utils.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    ade20k=('resolve_ade20k_run',),
    experiment=('BENCHMARKS', 'Experiment', 'resolve_experiment'),
    folders=('images_of', 'masks_of'),
    grids=('default_grid',),
    mask_folder=('resolve_mask_run',),
    methods=('METHODS',),
    pretrainings=('PRETRAININGS',),
)
