"""Hooks, optimizer wrappers and the set-up of runs."""

from lspt_mm.engine.amp import Bf16OptimWrapper
from lspt_mm.engine.checkpoints import PromptCheckpointHook
from lspt_mm.engine.faster import ChannelsLastHook
from lspt_mm.engine.finite import FiniteLossHook
from lspt_mm.engine.hooks import BackboneWeightsHook, TrainableReportHook
from lspt_mm.engine.loops import ResumableEpochBasedTrainLoop, ResumableIterBasedTrainLoop
from lspt_mm.engine.optim_constructor import TrainableOptimWrapperConstructor
from lspt_mm.engine.prepare import PreparePromptsHook
from lspt_mm.engine.run_log import PatientLocalVisBackend, RunLogHook
from lspt_mm.engine.stopping import StopOnSignalHook

__all__ = [
    'BackboneWeightsHook',
    'Bf16OptimWrapper',
    'ChannelsLastHook',
    'FiniteLossHook',
    'PatientLocalVisBackend',
    'PreparePromptsHook',
    'PromptCheckpointHook',
    'ResumableEpochBasedTrainLoop',
    'ResumableIterBasedTrainLoop',
    'RunLogHook',
    'StopOnSignalHook',
    'TrainableOptimWrapperConstructor',
    'TrainableReportHook',
]
