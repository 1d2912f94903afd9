"""Similarity of tokens (CKA, cosines), and of attention maps over the blocks.

Shapes: n tokens of widths D and E; L blocks, Q queries, N patches.
"""

import math
from typing import List, NamedTuple, Optional

import torch
from torch import Tensor
from torch.nn import functional as F


def linear_cka(x: Tensor, y: Tensor) -> float:
    r"""Linear centred kernel alignment (Kornblith et al., arXiv 1905.00414) without bias.

    :math:`\mathrm{HSIC}(K, L) / \sqrt{\mathrm{HSIC}(K, K) \, \mathrm{HSIC}(L, L)}` with
    :math:`K = X X^T` and the estimator of HSIC whose mean does not depend on the number of rows
    (Song et al., JMLR 2012). For independent rows its mean is 0; the usual estimator is near 1
    where there are fewer rows than columns. It can be slightly negative.

    Args:
        x: (n, D), n at least 4.
        y: (n, E), other features of the same rows.

    Returns:
        float: At most 1; 1 for tensors that differ by a rotation, a scale and a shift. NaN for
        fewer than 4 rows, and where all rows of one tensor are equal.
    """
    n = x.size(0)
    if n < 4:
        return math.nan
    k, l = _kernel(x), _kernel(y)
    total = _hsic(k, k) * _hsic(l, l)
    return _hsic(k, l) / math.sqrt(total) if total > 0 else math.nan


def _kernel(x: Tensor) -> Tensor:
    """X X^T of centred rows of unit mean square, its diagonal 0, in float64."""
    x = x.detach().double()
    x = x - x.mean(0)
    size = x.square().sum().sqrt()
    # Of equal rows, only rounding errors are left.
    alike = size <= 1e-6 * math.sqrt(x.size(0))
    x = torch.zeros_like(x) if alike else x * (math.sqrt(x.size(0)) / size)
    return (x @ x.T).fill_diagonal_(0)


def _hsic(k: Tensor, l: Tensor) -> float:
    """The estimator without bias, times n (n - 3), of kernels with zeros on the diagonal."""
    n = k.size(0)
    row_k, row_l = k.sum(0), l.sum(0)
    both = row_k.sum() * row_l.sum() / ((n - 1) * (n - 2))
    return float((k * l).sum() + both - 2 / (n - 2) * (row_k @ row_l))


def mean_cosine(x: Tensor, y: Tensor) -> float:
    """Mean over tokens of the cosine between x (..., D) and y (..., D), -1 to 1."""
    return float(F.cosine_similarity(x.detach().double(), y.detach().double(), dim=-1).mean())


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
                for blocks without. The same blocks must have maps for all images. Blocks with
                different Q are not compared (NaN).
        """
        present = [number for number, one in enumerate(maps, 1) if one is not None]
        if not present:
            return
        centred = [maps[number - 1].double() for number in present]
        centred = [one - one.mean(-1, keepdim=True) for one in centred]
        unit = [one / one.norm(dim=-1, keepdim=True).clamp_min(1e-30) for one in centred]
        found = torch.tensor([
            [float((a * b).sum(-1).mean()) if len(a) == len(b) else math.nan for b in unit]
            for a in unit
        ], dtype=torch.float64)
        self._sum = found if self._sum is None else self._sum + found
        self._blocks = present
        self.seen += 1

    def result(self) -> Persistence:
        """Means over all images."""
        table = self._sum / self.seen if self.seen else torch.full((0, 0), math.nan)
        return Persistence(self._blocks, table.tolist())
