"""LSTM cells of three sizes, with separate computation of the image-independent gate half.

    i, f, o = sigmoid(W_{i,f,o} p + U_{i,f,o} h + b),   g = tanh(W_g p + U_g h + b_g)
    C' = f * C + i * g,   h' = o * tanh(C')

Cells differ only in ``W`` and ``U``. Rows of all gate tensors are in the order
i, f, g, o of :class:`torch.nn.LSTMCell`.
"""

import math
from typing import Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.models.ops.lstm import lstm_pointwise


class LSTMCellBase(nn.Module):
    """Base class with the equations above; a subclass computes ``W p`` and ``U h``.

    Args:
        width: D, the ViT's width.
        forget_bias: Initial bias of the forget gate, stored in ``bias_ih``.
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
        """``W p + b`` (..., 4D): the part that does not depend on the image."""
        return self.from_input(p) + (self.bias_ih + self.bias_hh)

    def forward(
        self, input_gates: Tensor, h: Tensor, c: Optional[Tensor] = None
    ) -> Tuple[Tensor, Tensor]:
        """Run one step.

        Args:
            input_gates: From :meth:`input_gates`, (P, 4D) or (B, P, 4D).
            h: Hidden state, (B, P, D).
            c: Cell state, broadcastable to (B, P, D); None is zero.

        Returns:
            tuple: h', C', each (B, P, D).
        """
        return lstm_pointwise(input_gates + self.from_hidden(h), c)


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

    Initially the entries of the factors' product have the same variance as the full cell's.
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
    """Every channel has its own gates: W, U are diagonal, (4D,) each: 16 D parameters."""

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
    """torch.nn.LSTMCell's initialisation, U(-1/sqrt(fan), 1/sqrt(fan)), times ``gain``."""
    bound = gain / math.sqrt(fan)
    return torch.empty(*shape).uniform_(-bound, bound)
