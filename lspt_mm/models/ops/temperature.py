"""Queries divided by a learnable temperature."""

from typing import Tuple

import torch
from torch import Tensor


def divide_by_temperature(q: Tensor, temperature: Tensor) -> Tensor:
    """``q / temperature`` for q (B, H, T, d) and a scalar or (B, 1, 1, 1).

    Only the quotient is kept for the backward pass. Attention keeps it anyway, and the gradient of
    the temperature does not need the queries.
    """
    return _Divide.apply(q, temperature)


class _Divide(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q: Tensor, temperature: Tensor) -> Tensor:
        out = q / temperature.to(q.dtype)
        ctx.save_for_backward(out, temperature)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tuple[Tensor, Tensor]:
        out, temperature = ctx.saved_tensors
        # d(q / t) / dt = -q / t^2 = -out / t, and a sum over all that one temperature divided.
        rows = torch.linalg.vecdot(grad, out).to(temperature.dtype).unsqueeze(-1)  # (B, H, T, 1)
        grad_temperature = -(rows / temperature).sum_to_size(temperature.shape)
        return grad / temperature.to(grad.dtype), grad_temperature
