"""The pointwise part of an LSTM step, with a fused backward pass."""

from typing import Optional, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_aten = torch.ops.aten


def lstm_pointwise(gates: Tensor, c: Optional[Tensor] = None) -> Tuple[Tensor, Tensor]:
    """Hidden and cell state from gate pre-activations, in the order i, f, g, o.

    The eager form, which compiled code runs::

        i, f, g, o = gates.chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    Autograd would assemble the gradient of the gates from four parts and allocate two tensors for
    every product.

    Args:
        gates: (..., 4D).
        c: Previous cell state, broadcastable to (..., D); None is zero.

    Returns:
        tuple: h and c, (..., D) each.
    """
    if not torch.compiler.is_compiling():
        # The same code with and without a gradient, so that results are bit-identical.
        return _LSTMPointwise.apply(gates, c)
    i, f, g, o = gates.chunk(4, dim=-1)
    written = i.sigmoid() * g.tanh()
    c = written if c is None else f.sigmoid() * c + written
    return o.sigmoid() * c.tanh(), c


class _LSTMPointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx, gates: Tensor, c: Optional[Tensor]) -> Tuple[Tensor, Tensor]:
        width = gates.size(-1) // 4
        active = torch.empty_like(gates)
        torch.sigmoid(gates[..., : 2 * width], out=active[..., : 2 * width])
        torch.tanh(gates[..., 2 * width : 3 * width], out=active[..., 2 * width : 3 * width])
        torch.sigmoid(gates[..., 3 * width :], out=active[..., 3 * width :])
        i, f, g, o = active.chunk(4, dim=-1)
        new_c = i * g
        if c is not None:
            c = c.to(new_c.dtype)
            new_c.addcmul_(f, c)
        tanh_c = new_c.tanh()
        ctx.save_for_backward(active, tanh_c, c)
        ctx.set_materialize_grads(False)
        return o * tanh_c, new_c

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_h: Optional[Tensor], grad_c: Optional[Tensor]):
        active, tanh_c, c = ctx.saved_tensors
        i, f, g, o = active.chunk(4, dim=-1)
        grad_gates = torch.empty_like(active)
        grad_i, grad_f, grad_g, grad_o = grad_gates.chunk(4, dim=-1)
        sigmoid_backward, tanh_backward = _aten.sigmoid_backward, _aten.tanh_backward
        if grad_h is None and grad_c is None:
            return None, None
        if grad_h is None:
            grad_o.zero_()
            total = grad_c
        else:
            sigmoid_backward(grad_h * tanh_c, o, grad_input=grad_o)
            total = tanh_backward(grad_h * o, tanh_c)
            if grad_c is not None:
                total.add_(grad_c)
        sigmoid_backward(total * g, i, grad_input=grad_i)
        tanh_backward(total * i, g, grad_input=grad_g)
        if c is None:
            grad_f.zero_()
            return grad_gates, None
        sigmoid_backward(total * c, f, grad_input=grad_f)
        return grad_gates, (total * f).sum_to_size(c.shape) if ctx.needs_input_grad[1] else None
