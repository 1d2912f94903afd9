"""Hooks of prompt-tuned runs, one file each."""

from lspt_mm.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from lspt_mm.engine.hooks.backbone_weights_hook import BackboneWeightsHook
from lspt_mm.engine.hooks.check_invalid_loss_hook import CheckInvalidLossHook
from lspt_mm.engine.hooks.class_scores_hook import ClassScoresHook
from lspt_mm.engine.hooks.jsonl_logger_hook import FaultTolerantLocalVisBackend, JsonlLoggerHook
from lspt_mm.engine.hooks.linear_baseline_hook import LinearBaselineHook
from lspt_mm.engine.hooks.preemption_hook import PreemptionHook
from lspt_mm.engine.hooks.progress_hook import ProgressHook
from lspt_mm.engine.hooks.prompt_checkpoint_hook import PromptCheckpointHook
from lspt_mm.engine.hooks.prompt_init_hook import PromptInitHook
from lspt_mm.engine.hooks.prompter_hook import PrompterHook
from lspt_mm.engine.hooks.trainable_report_hook import TrainableReportHook
from lspt_mm.engine.hooks.warm_start_hook import WarmStartHook

__all__ = [
    'AtomicCheckpointHook',
    'BackboneWeightsHook',
    'CheckInvalidLossHook',
    'ClassScoresHook',
    'FaultTolerantLocalVisBackend',
    'JsonlLoggerHook',
    'LinearBaselineHook',
    'PreemptionHook',
    'ProgressHook',
    'PromptCheckpointHook',
    'PromptInitHook',
    'PrompterHook',
    'TrainableReportHook',
    'WarmStartHook',
]
