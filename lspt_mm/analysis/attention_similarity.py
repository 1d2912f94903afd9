"""How much of a block's spatial attention is still there in other blocks.

Shapes: L blocks, Q queries, N patches.
"""

import math
from typing import List, NamedTuple, Optional

import torch
from torch import Tensor


class Persistence(NamedTuple):
    """Correlations of attention maps, -1 to 1.

    ``blocks``: numbers, from 1. ``correlation``: [i][j], correlation over patches of the same
    query's attention in ``blocks[i]`` and ``blocks[j]``, mean over queries and images.
    """

    blocks: List[int]
    correlation: List[List[float]]


class PersistenceTrace:
    """Collects attention maps image by image."""

    def __init__(self):
        self._sum: Optional[Tensor] = None
        self._blocks: List[int] = []
        self.seen = 0

    def add(self, maps: List[Optional[Tensor]]) -> None:
        """Add one image.

        Args:
            maps: For every block from the first on (Q, N), attention of the same queries; None
                for blocks without. Which blocks have some is the same for all images.
        """
        present = [number for number, one in enumerate(maps, 1) if one is not None]
        if not present:
            return
        stack = torch.stack([maps[number - 1] for number in present]).double()  # (L, Q, N)
        stack = stack - stack.mean(-1, keepdim=True)
        stack = stack / stack.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        found = torch.einsum('aqn,bqn->ab', stack, stack) / stack.size(1)
        self._sum = found if self._sum is None else self._sum + found
        self._blocks = present
        self.seen += 1

    def result(self) -> Persistence:
        """Means over all images."""
        table = self._sum / self.seen if self.seen else torch.full((0, 0), math.nan)
        return Persistence(self._blocks, table.tolist())
