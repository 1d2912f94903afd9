"""LoRA on queries, keys and values (arXiv 2106.09685), added to a frozen projection."""

import math
from typing import Sequence

import torch
from torch import Tensor, cat, nn
from torch.nn import functional as F

#: Letters of ``lora_parts``, in the order of the packed projection.
PARTS = 'qkv'


class LoRA(nn.Module):
    """Low-rank update of a block's queries, keys and values: ``up @ down @ x``, of rank r.

    As peft's LoRA on a packed projection, with alpha = r and without dropout. ``down`` is shared
    by all parts and starts Kaiming uniform; ``up`` starts at 0.

    Args:
        rank: r.
        width: D, the tokens' width.
        widths: Widths of queries, keys and values.
        parts: Those with LoRA, such as ``'qv'``.

    Attributes:
        down (Parameter): (r, D).
        up (Parameter): (sum of the chosen ``widths``, r).
    """

    def __init__(self, rank: int, width: int, widths: Sequence[int], parts: str = PARTS):
        super().__init__()
        self.widths, self.parts = tuple(widths), parts
        chosen = sum(w for w, part in zip(widths, PARTS, strict=True) if part in parts)
        self.down = nn.Parameter(torch.empty(rank, width))
        self.up = nn.Parameter(torch.zeros(chosen, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor, first: int, end: int) -> Tensor:
        """Update for tokens (B, T, D): parts ``first .. end - 1``, concatenated."""
        chosen = [part for part in PARTS[first:end] if part in self.parts]
        if not chosen:
            return x.new_zeros(*x.shape[:-1], sum(self.widths[first:end]))
        low = F.linear(x, self.down)
        before = sum(self._width(part) for part in PARTS[:first] if part in self.parts)
        up = self.up[before : before + sum(map(self._width, chosen))]
        if len(chosen) == end - first:
            return F.linear(low, up)
        ups = iter(up.split([self._width(part) for part in chosen]))
        return cat([
            F.linear(low, next(ups)) if part in chosen
            else low.new_zeros(*low.shape[:-1], self._width(part))
            for part in PARTS[first:end]
        ], dim=-1)

    def _width(self, part: str) -> int:
        return self.widths[PARTS.index(part)]

    def delta(self) -> Sequence[Tensor]:
        """Updates of the weights of queries, keys and values, (width, D) each."""
        eye = torch.eye(self.down.size(1), dtype=self.down.dtype, device=self.down.device)
        return self(eye, 0, 3).mT.split(self.widths)
