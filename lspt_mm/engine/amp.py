"""Mixed precision on any device."""

from contextlib import contextmanager

import torch
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
