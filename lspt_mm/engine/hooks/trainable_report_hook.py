"""Hook that logs trained parameters, their share of the model, and an estimated duration."""

import datetime
import time
from typing import Dict, List

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from lspt_mm.checkpoints.backbone import ADDED
from lspt_mm.engine.unwrapping import model_of
from lspt_mm.registry import HOOKS
from lspt_mm.utils.text import format_table

#: Iterations before the duration is logged; the first ones are slower and not counted.
_AFTER, _WARM = 10, 3


@HOOKS.register_module()
class TrainableReportHook(Hook):
    """Log a table of trainable parameters and, after ten iterations, the remaining time."""

    def before_train(self, runner: Runner) -> None:  # noqa: D102
        self._done = 0
        model = model_of(runner)
        runner.logger.info('Trainable parameters:\n' + trainable_table(model))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # noqa: D102
        self._done += 1
        if self._done == _WARM:
            self._begin = time.time()
        elif self._done == _AFTER:
            each = (time.time() - self._begin) / (_AFTER - _WARM)
            left = runner.max_iters - runner.iter - 1
            runner.logger.info(
                f'{each:.2g} s per iteration: {left} more take about '
                f'{datetime.timedelta(seconds=round(each * left))}, validations not counted'
            )


def count_parameters(model: nn.Module) -> Dict[str, List[int]]:
    """Count trainable and all parameters of each part; prompter and LoRA are separate parts."""
    parts: Dict[str, List[int]] = {}
    for name, parameter in model.named_parameters():
        part = name.split('.')[0]
        for added in ADDED:
            if f'.{added}' in f'.{name}':
                part = name[: name.index(added) + len(added) - 1]
        counts = parts.setdefault(part, [0, 0])
        counts[0] += parameter.numel() * parameter.requires_grad
        counts[1] += parameter.numel()
    return parts


def trainable_table(model: nn.Module) -> str:
    """Format the counts of :func:`count_parameters` as a table."""
    parts = count_parameters(model)
    parts['all'] = [sum(c[k] for c in parts.values()) for k in (0, 1)]
    rows = [('part', 'trainable', 'all', 'share')]
    for part, (trainable, total) in parts.items():
        rows.append((part, f'{trainable:,}', f'{total:,}', f'{trainable / max(total, 1):.2%}'))
    return format_table(rows, '<>>>')
