"""Mixed precision on any device."""

from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner.amp import autocast
from torch import nn

from lspt_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """``OptimWrapper`` whose forward pass runs under bfloat16 autocast, on CPU and GPU alike.

    MMEngine's ``AmpOptimWrapper`` refuses to start without an accelerator. bfloat16 has
    float32's range, so no loss scaling is needed.
    """

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Enter gradient-accumulation context and bfloat16 autocast."""
        with super().optim_context(model), autocast(dtype=torch.bfloat16):
            yield


def turn_on_amp(cfg: Config) -> None:
    """Mixed precision in the cheapest form that this machine has."""
    if cfg.optim_wrapper.type not in ('OptimWrapper', 'AmpOptimWrapper'):
        return  # the config has chosen a wrapper of its own
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    else:
        cfg.optim_wrapper.type = 'lspt_mm.Bf16OptimWrapper'
        cfg.optim_wrapper.pop('loss_scale', None)
