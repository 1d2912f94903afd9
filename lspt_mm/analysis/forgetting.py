"""Measure forgetting: how similar a block's prompts are to those of later blocks.

Shapes: B images, P prompts, D width; blocks are counted from 1.
"""

import math
from typing import Callable, Dict, List, NamedTuple, Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from lspt_mm.analysis.similarity import linear_cka, mean_cosine
from lspt_mm.models.tokens import BlockStep

#: Maximum number of rows of a kernel alignment, whose cost grows with their square.
MOST_ROWS = 1500


class Forgetting(NamedTuple):
    """Similarities of prompts over depth; NaN where one is not defined.

    ``blocks``: the blocks that prompts enter, l. ``cka``, ``cosine``: [i][j] between the prompts
    that enter ``blocks[i]`` and ``blocks[j]``; NaN if their numbers differ. ``passed_on``: for each
    of ``blocks`` but the last, the cosine between the prompts that leave the block and those that
    enter the next one; NaN where the former are discarded (deep prompts). ``kept``: the cosine
    between the prompts that enter and leave a block. ``spread``: the variance between the P prompts
    of an image, as a share of the variance over images and prompts: 1 where prompts are the same
    for all images, near 0 where they depend almost only on the image. ``alike``: mean cosine
    between two prompts of an image: 1 for equal prompts, NaN for a single prompt. ``made_norm``,
    ``patch_norm``: mean Euclidean norms of the prompts that leave the block (NaN where they are
    discarded), and of the mean of its patch tokens, which LSPT's GSPC adds to them.
    """

    blocks: List[int]
    cka: List[List[float]]
    cosine: List[List[float]]
    passed_on: List[float]
    kept: List[float]
    spread: List[float]
    alike: List[float]
    made_norm: List[float]
    patch_norm: List[float]


class PromptTrace:
    """Collects the prompts of every block, image by image; :meth:`result` compares them.

    Pass :meth:`add` to ``PromptedViT.unroll``.
    """

    def __init__(self):
        self._entering: Dict[int, List[Tensor]] = {}
        self._made: Dict[int, List[Tensor]] = {}
        self._patch_norms: Dict[int, List[Tensor]] = {}

    def add(self, step: BlockStep) -> None:
        """Store the prompts that enter and leave the block of one step."""
        if step.prompts_in is None:
            return
        batch = step.x_in.size(0)
        patches = step.x_out[:, -step.hw[0] * step.hw[1] :].detach().double().mean(1)  # (B, D)
        self._patch_norms.setdefault(step.number, []).append(patches.norm(dim=-1).cpu())
        # Stored once, as (1, P, D), where they are the same for all images.
        self._entering.setdefault(step.number, []).append(step.prompts_in.detach().float().cpu())
        if step.prompts_out is not None:
            made = step.prompts_out.detach().float().cpu()
            self._made.setdefault(step.number, []).append(made.expand(batch, -1, -1))

    def result(self) -> Optional[Forgetting]:
        """All similarities; None if no prompts were seen."""
        blocks = sorted(self._entering)
        if not blocks:
            return None
        entering = {l: _all_images(self._entering[l]) for l in blocks}
        made = {l: torch.cat(parts) for l, parts in self._made.items()}

        def table(measure: Callable[[Tensor, Tensor], float]) -> List[List[float]]:
            found = {(a, b): _of_same_number(measure, entering[a], entering[b])
                     for a in blocks for b in blocks if a <= b}
            return [[found[min(a, b), max(a, b)] for b in blocks] for a in blocks]

        return Forgetting(
            blocks=blocks,
            cka=table(_cka),
            cosine=table(mean_cosine),
            passed_on=[_between(made.get(l), entering.get(l + 1)) for l in blocks[:-1]],
            kept=[_between(entering[l], made.get(l)) for l in blocks],
            spread=[_spread(entering[l]) for l in blocks],
            alike=[_alike(entering[l]) for l in blocks],
            made_norm=[_norm(made.get(l)) for l in blocks],
            patch_norm=[float(torch.cat(self._patch_norms[l]).mean()) for l in blocks],
        )


def _of_same_number(measure: Callable, x: Tensor, y: Tensor) -> float:
    """A measure of two blocks' prompts; NaN if one block has more than the other."""
    return measure(x, y) if x.size(1) == y.size(1) else math.nan


def _all_images(parts: List[Tensor]) -> Tensor:
    """(B, P, D) of all batches; (1, P, D) if the prompts are the same for all images."""
    if all(part.size(0) == 1 and torch.equal(part, parts[0]) for part in parts):
        return parts[0]
    return torch.cat(parts)


def _cka(x: Tensor, y: Tensor) -> float:
    """Over prompts of all images as rows, or the P prompts where both are the same for all."""
    images = max(x.size(0), y.size(0))
    x, y = (t.expand(images, -1, -1).flatten(0, 1) for t in (x, y))
    if x.size(0) > MOST_ROWS:
        rows = torch.randperm(x.size(0), generator=torch.Generator().manual_seed(0))[:MOST_ROWS]
        x, y = x[rows], y[rows]
    return linear_cka(x, y)


def _between(x: Optional[Tensor], y: Optional[Tensor]) -> float:
    return math.nan if x is None or y is None else mean_cosine(x, y)


def _norm(x: Optional[Tensor]) -> float:
    return math.nan if x is None else float(x.double().norm(dim=-1).mean())


def _alike(prompts: Tensor) -> float:
    """Mean cosine of all pairs of prompts of an image, -1 to 1."""
    count = prompts.size(1)
    if count < 2:
        return math.nan
    total = F.normalize(prompts.double(), dim=-1).sum(1)  # (B, D)
    return float(((total.square().sum(-1) - count) / (count * (count - 1))).mean())


def _spread(prompts: Tensor) -> float:
    """Variance between the prompts of an image, as a share of the total variance, 0 to 1."""
    prompts = prompts.double()
    within = (prompts - prompts.mean(1, keepdim=True)).square().sum()
    total = (prompts - prompts.mean((0, 1))).square().sum()
    return float(within / total) if total > 0 else math.nan
