"""Hooks, loops, optimizer wrappers, a metric and the set-up of runs."""

from importlib.util import find_spec

from lspt_mm.engine.hooks import *  # noqa: F403
from lspt_mm.engine.hooks import __all__ as _hooks
from lspt_mm.engine.linear_probe_loop import LinearProbeLoop
from lspt_mm.engine.loops import ResumableEpochBasedTrainLoop, ResumableIterBasedTrainLoop
from lspt_mm.engine.optim_wrappers import Bf16OptimWrapper, TrainableOptimWrapperConstructor

if find_spec('mmseg') is not None:  # classification needs none of it
    from lspt_mm.engine.iou_metric import IoUMetric

__all__ = [
    *_hooks,
    'Bf16OptimWrapper',
    'IoUMetric',
    'LinearProbeLoop',
    'ResumableEpochBasedTrainLoop',
    'ResumableIterBasedTrainLoop',
    'TrainableOptimWrapperConstructor',
]
