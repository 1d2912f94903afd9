"""Hooks, loops, optimizer wrappers and the set-up of runs."""

from lspt_mm.engine.hooks import *  # noqa: F403
from lspt_mm.engine.hooks import __all__ as _hooks
from lspt_mm.engine.linear_probe_loop import LinearProbeLoop
from lspt_mm.engine.loops import ResumableEpochBasedTrainLoop, ResumableIterBasedTrainLoop
from lspt_mm.engine.optim_wrappers import Bf16OptimWrapper, TrainableOptimWrapperConstructor

__all__ = [
    *_hooks,
    'Bf16OptimWrapper',
    'LinearProbeLoop',
    'ResumableEpochBasedTrainLoop',
    'ResumableIterBasedTrainLoop',
    'TrainableOptimWrapperConstructor',
]
