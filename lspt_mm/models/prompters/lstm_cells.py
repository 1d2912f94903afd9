"""LSTM cells of three widths, with the image-independent half of their gates set apart.

    i, f, o = sigmoid(W_{i,f,o} p + U_{i,f,o} h + b),   g = tanh(W_g p + U_g h + b_g)
    C' = f * C + i * g,   h' = o * tanh(C')

A cell differs from another in ``W`` and ``U`` only. Rows of all gate tensors are in the order
i, f, g, o of :class:`torch.nn.LSTMCell`.
"""

import math
from typing import Optional, Tuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_aten = torch.ops.aten


class LSTMCellBase(nn.Module):
    """The equations above; a subclass gives ``W p`` and ``U h``.

    Args:
        width: D, the ViT's width.
        forget_bias: Value added to the forget gate at the start, stored in ``bias_ih``.
    """

    def __init__(self, width: int, forget_bias: float = 1.0):
        super().__init__()
        self.width = width
        self.bias_ih = nn.Parameter(torch.zeros(4 * width))
        self.bias_hh = nn.Parameter(torch.zeros(4 * width))
        with torch.no_grad():
            self.bias_ih[width : 2 * width] = forget_bias

    def from_input(self, p: Tensor) -> Tensor:
        """``W p``, (..., D) to (..., 4D)."""
        raise NotImplementedError

    def from_hidden(self, h: Tensor) -> Tensor:
        """``U h``, (..., D) to (..., 4D)."""
        raise NotImplementedError

    def input_gates(self, p: Tensor) -> Tensor:
        """``W p + b`` (..., 4D): all that does not depend on the image."""
        return self.from_input(p) + (self.bias_ih + self.bias_hh)

    def forward(
        self, input_gates: Tensor, h: Tensor, c: Optional[Tensor] = None
    ) -> Tuple[Tensor, Tensor]:
        """One step.

        Args:
            input_gates: From :meth:`input_gates`, (P, 4D) or (B, P, 4D).
            h: Hidden state, (B, P, D).
            c: Cell state, broadcastable to (B, P, D); None is zero.

        Returns:
            tuple: h', C', each (B, P, D).
        """
        gates = input_gates + self.from_hidden(h)
        if not torch.compiler.is_compiling():
            # In the same way with and without a gradient, so that both give the same to the bit.
            return _Pointwise.apply(gates, c)
        i, f, g, o = gates.chunk(4, dim=-1)
        written = i.sigmoid() * g.tanh()
        c = written if c is None else f.sigmoid() * c + written
        return o.sigmoid() * c.tanh(), c


class _Pointwise(torch.autograd.Function):
    """h' and C' from the gates before their activations (..., 4D), with a gradient in one piece.

    Autograd would put the gradient of the gates together from four parts, and make two tensors for
    every product.
    """

    @staticmethod
    def forward(ctx, gates: Tensor, c: Optional[Tensor]) -> Tuple[Tensor, Tensor]:  # noqa: D102
        width = gates.size(-1) // 4
        active = torch.empty_like(gates)
        torch.sigmoid(gates[..., : 2 * width], out=active[..., : 2 * width])
        torch.tanh(gates[..., 2 * width : 3 * width], out=active[..., 2 * width : 3 * width])
        torch.sigmoid(gates[..., 3 * width :], out=active[..., 3 * width :])
        i, f, g, o = active.chunk(4, dim=-1)
        after = i * g
        if c is not None:
            c = c.to(after.dtype)
            after.addcmul_(f, c)
        squashed = after.tanh()
        ctx.save_for_backward(active, squashed, c)
        ctx.set_materialize_grads(False)
        return o * squashed, after

    @staticmethod
    @once_differentiable
    def backward(ctx, of_hidden: Optional[Tensor], of_after: Optional[Tensor]):  # noqa: D102
        active, squashed, c = ctx.saved_tensors
        i, f, g, o = active.chunk(4, dim=-1)
        of_gates = torch.empty_like(active)
        to_i, to_f, to_g, to_o = of_gates.chunk(4, dim=-1)
        sigmoid_backward, tanh_backward = _aten.sigmoid_backward, _aten.tanh_backward
        if of_hidden is None and of_after is None:
            return None, None
        if of_hidden is None:
            to_o.zero_()
            total = of_after
        else:
            sigmoid_backward(of_hidden * squashed, o, grad_input=to_o)
            total = tanh_backward(of_hidden * o, squashed)
            if of_after is not None:
                total.add_(of_after)
        sigmoid_backward(total * g, i, grad_input=to_i)
        tanh_backward(total * i, g, grad_input=to_g)
        if c is None:
            to_f.zero_()
            return of_gates, None
        sigmoid_backward(total * c, f, grad_input=to_f)
        return of_gates, (total * f).sum_to_size(c.shape) if ctx.needs_input_grad[1] else None


class FullCell(LSTMCellBase):
    """W, U: (4D, D), with :class:`torch.nn.LSTMCell`'s parameter names: 8 D^2 + 8 D parameters."""

    def __init__(self, width: int, forget_bias: float = 1.0):
        super().__init__(width, forget_bias)
        self.weight_ih = nn.Parameter(_uniform(4 * width, width, fan=width))
        self.weight_hh = nn.Parameter(_uniform(4 * width, width, fan=width))

    def from_input(self, p):  # noqa: D102
        return F.linear(p, self.weight_ih)

    def from_hidden(self, h):  # noqa: D102
        return F.linear(h, self.weight_hh)


class LowRankCell(LSTMCellBase):
    """W = U V with U (4D, r), V (r, D), and the same for the hidden half: 10 D r + 8 D parameters.

    The factors start so that the entries of their product have the variance of the full cell's.
    """

    def __init__(self, width: int, rank: int, forget_bias: float = 1.0):
        super().__init__(width, forget_bias)
        self.weight_ih_u = nn.Parameter(_uniform(4 * width, rank, fan=rank, gain=math.sqrt(3)))
        self.weight_ih_v = nn.Parameter(_uniform(rank, width, fan=width))
        self.weight_hh_u = nn.Parameter(_uniform(4 * width, rank, fan=rank, gain=math.sqrt(3)))
        self.weight_hh_v = nn.Parameter(_uniform(rank, width, fan=width))

    def from_input(self, p):  # noqa: D102
        return F.linear(F.linear(p, self.weight_ih_v), self.weight_ih_u)

    def from_hidden(self, h):  # noqa: D102
        return F.linear(F.linear(h, self.weight_hh_v), self.weight_hh_u)


class DiagonalCell(LSTMCellBase):
    """Every channel has gates of its own: W, U are diagonal, (4D,) each: 16 D parameters."""

    def __init__(self, width: int, forget_bias: float = 1.0):
        super().__init__(width, forget_bias)
        self.weight_ih = nn.Parameter(_uniform(4 * width, fan=1))
        self.weight_hh = nn.Parameter(_uniform(4 * width, fan=1))

    def from_input(self, p):  # noqa: D102
        return self._per_channel(self.weight_ih, p)

    def from_hidden(self, h):  # noqa: D102
        return self._per_channel(self.weight_hh, h)

    def _per_channel(self, weight: Tensor, x: Tensor) -> Tensor:
        # (4, D) * (..., 1, D) -> (..., 4, D) -> (..., 4D)
        return (weight.view(4, self.width) * x.unsqueeze(-2)).flatten(-2)


def _uniform(*shape: int, fan: int, gain: float = 1.0) -> Tensor:
    """torch.nn.LSTMCell's start, U(-1/sqrt(fan), 1/sqrt(fan)), times ``gain``."""
    bound = gain / math.sqrt(fan)
    return torch.empty(*shape).uniform_(-bound, bound)
