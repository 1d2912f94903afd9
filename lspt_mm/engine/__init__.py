"""Hooks, optimizer wrappers and the set-up of runs."""

from lspt_mm.engine.amp import Bf16OptimWrapper
from lspt_mm.engine.checkpoints import PromptCheckpointHook
from lspt_mm.engine.faster import ChannelsLastHook
from lspt_mm.engine.hooks import BackboneWeightsHook, TrainableReportHook
from lspt_mm.engine.optim_constructor import TrainableOptimWrapperConstructor
from lspt_mm.engine.prepare import PreparePromptsHook

__all__ = [
    'BackboneWeightsHook',
    'Bf16OptimWrapper',
    'ChannelsLastHook',
    'PreparePromptsHook',
    'PromptCheckpointHook',
    'TrainableOptimWrapperConstructor',
    'TrainableReportHook',
]
