"""Stops training on a non-finite loss and writes a diagnostic report."""

import json
import math
from pathlib import Path
from typing import Any, Dict, List

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from lspt_mm.errors import InputError
from lspt_mm.registry import HOOKS
from lspt_mm.utils.atomic_io import write_text
from lspt_mm.version import __version__

PATIENCE = 20  # overflowing steps in a row that the loss scaler may have


@HOOKS.register_module()
class CheckInvalidLossHook(Hook):
    """Stops the run at the first non-finite loss, or before it saves a non-finite weight.

    The error names the iteration, the learning rates and the files of the batch.
    ``nonfinite_N_rank_R.json`` in the work dir also has every loss and, for each trained tensor,
    its norm and the number of its non-finite values. Non-finite weights are never saved, so the
    last checkpoint is usable. With loss scaling (float16), up to 20 overflowing steps in a row are
    left to the scaler.

    Raises:
        InputError: After the iteration.
    """

    priority = 'HIGH'

    def __init__(self):
        self._in_a_row = 0

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # noqa: D102
        # MMEngine has already copied the losses from the device, for the log.
        losses = {k: _value(v) for k, v in (outputs or {}).items() if _is_number(v)}
        if math.isfinite(losses.get('loss', 0.0)):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if hasattr(runner.optim_wrapper, 'loss_scaler') and self._in_a_row <= PATIENCE:
            return
        files = files_of(data_batch)
        rates = {k: v[0] for k, v in runner.optim_wrapper.get_lr().items() if v}
        report = {
            'iteration': runner.iter + 1, 'epoch': runner.epoch, 'rank': runner.rank,
            'seed': runner.seed, 'losses': losses, 'learning_rates': rates, 'files': files,
            'trained': _state_of(runner.model), 'lspt_mm': __version__, 'torch': torch.__version__,
        }
        path = Path(runner.work_dir) / f'nonfinite_{runner.iter + 1}_rank_{runner.rank}.json'
        try:
            write_text(path, json.dumps(report, indent=1, default=str) + '\n')
            where = f'; more in {path}'
        except OSError as error:
            where = f'; {path} cannot be written: {error}'
        parts = ', '.join(f'{k}={v:g}' for k, v in losses.items() if not math.isfinite(v))
        raise InputError(
            f'iteration {runner.iter + 1}: the loss is not finite ({parts}) at learning rates '
            f'{", ".join(f"{k}={v:g}" for k, v in rates.items())}. Files of the batch: '
            f'{", ".join(files) or "unknown"}{where}. Checkpoints before it are kept. Lower the '
            'learning rate, lengthen the warm-up, or clip gradients: --cfg-options '
            'optim_wrapper.clip_grad.max_norm=1'
        )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:  # noqa: D102
        bad = [
            name for name, tensor in checkpoint['state_dict'].items()
            if tensor.is_floating_point() and not torch.isfinite(tensor).all()
        ]
        if bad:
            raise InputError(
                f'iteration {runner.iter + 1}: weights that are not finite are not saved '
                f'({len(bad)}, such as {bad[0]}). Checkpoints before it are kept. Lower the '
                'learning rate, or clip gradients: --cfg-options '
                'optim_wrapper.clip_grad.max_norm=1'
            )


def files_of(batch: Any) -> List[str]:
    """Paths of the images of a batch, of those samples that have one."""
    samples = batch.get('data_samples') if isinstance(batch, dict) else None
    if samples is None:
        return []
    samples = samples if isinstance(samples, (list, tuple)) else [samples]
    return [str(s.img_path) for s in samples if getattr(s, 'img_path', None)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or getattr(value, 'numel', lambda: 0)() == 1


def _value(number: Any) -> float:
    return float(number.detach() if isinstance(number, torch.Tensor) else number)


def _state_of(model: torch.nn.Module) -> Dict[str, dict]:
    """Norm and number of non-finite values of each trained weight after the step."""
    return {
        name: {'norm': float(p.detach().norm()), 'not_finite': int((~torch.isfinite(p)).sum())}
        for name, p in model.named_parameters() if p.requires_grad
    }
