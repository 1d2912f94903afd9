"""Prompts of all blocks in one tensor, each with a block of its own, and their scores."""

from typing import Any, Dict, List, Optional, Tuple

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from lspt_mm.models.prompters.base import DeepPrompter, vpt_uniform


class PromptPool(DeepPrompter):
    r"""Base class of methods whose blocks may have different numbers of prompts.

    The outputs of prompts are not read, except by the out types that pool them; there
    ``'avg_prompts'`` is an error once the block has no prompts left. In a training run each
    prompt :math:`p_i` has a score: with loss :math:`\mathcal L` of a step and a gate
    :math:`g_i = 1` that multiplies the prompt,

    .. math::
        I_i = \frac{\partial \mathcal L}{\partial g_i}
            = \left\langle p_i, \frac{\partial \mathcal L}{\partial p_i} \right\rangle

    so that the step's own backward pass gives it. To first order, the loss falls by :math:`I_i`
    if the prompt is set to 0. ``scores`` has the sum over the steps of a pass.

    A step's :math:`I` is the mean over all processes, so that a checkpoint of the first process
    holds what all of them have summed. Gradient accumulation and the loss scale of mixed
    precision multiply all gradients of a step by the same number, which :class:`Training` has as
    ``scale``; if the scale changes within a pass, steps have different weights. Steps whose
    gradients are not finite do not count.

    Args:
        num_tokens (int): P, the number of prompts of each block at the start.
        dropout (float): On inserted prompts.
        start_block (int): First block with prompts, from 1.

    Attributes:
        prompts (Parameter): (T, D), T = L' P, VPT's uniform initialisation.
        block (Tensor): (T,) of integers, the block that each prompt enters; 0 is none. At the
            start P prompts enter each block.
        scores (Tensor): (T,), the sum of ``score`` over the steps of this pass.
        steps (Tensor): Number of these steps.

    Parameters in all: L' P D.
    """

    def __init__(self, num_tokens: int, dropout: float = 0.0, start_block: int = 1, **vit):
        super().__init__(num_tokens, dropout, start_block, **vit)
        width, total = self.embed_dims, self.num_prompted * num_tokens
        self.prompts = vpt_uniform(total, width, patch_size=self.patch_size, embed_dims=width)
        blocks = torch.arange(start_block, self.num_layers + 1)
        self.register_buffer('block', blocks.repeat_interleave(num_tokens))
        self.register_buffer('scores', torch.zeros(total))
        self.register_buffer('steps', torch.tensor(0))
        self._products: Optional[Tensor] = None  # I of the step that runs

    # ---- prompts --------------------------------------------------------------------------------

    def fuse(self) -> None:
        """Store the prompts by block."""
        self.fused = [None if part is None else part.detach() for part in self._by_block()]

    def first(self, patches: Tensor, grid: Tuple[int, int]) -> Tuple[Optional[Tensor], Any]:
        """The first block's prompts, (1, P', D) or None; the state is those of all blocks."""
        state = self._by_block() if self.fused is None else self.fused
        return state[0], state

    def _by_block(self) -> List[Optional[Tensor]]:
        """Prompts of each of the L' blocks after dropout, (1, P', D), None where it has none."""
        counts = self.counts()
        order = self.block.argsort(stable=True)[counts[0] :]
        chosen = self.prompts[order]
        if self._products is not None and chosen.requires_grad:
            products, values = self._products, chosen.detach()

            def add(gradient: Tensor) -> None:
                products.index_add_(0, order, (values * gradient).sum(dim=1))

            chosen.register_hook(add)
        parts = self.drop(chosen).split(counts[self.start_block :])
        return [part[None] if len(part) else None for part in parts]

    def counts(self) -> List[int]:
        """Number of prompts of blocks 1 .. L; before them that of removed prompts."""
        if self.block.is_meta:  # no values: as at the start
            return [0] * self.start_block + [self.num_tokens] * self.num_prompted
        return self.block.bincount(minlength=self.num_layers + 1).tolist()

    def layout(self) -> Tuple[int, ...]:
        """The number of prompts of each block."""
        return tuple(self.counts()[self.start_block :])

    def per_block_stats(self) -> Dict[str, Dict[int, float]]:
        """The number of prompts of each block."""
        found = enumerate(self.layout(), self.start_block)
        return {'number of prompts': {l: float(count) for l, count in found}}

    # ---- scores ---------------------------------------------------------------------------------

    def score(self, products: Tensor) -> Tensor:
        """What a step with :math:`I` (T,) adds to ``scores``."""
        return products

    def before_step(self) -> None:
        """The backward pass of this step gives :math:`I`."""
        self._products = self.prompts.new_zeros(len(self.prompts))

    @torch.no_grad()
    def after_step(self) -> None:
        """Add the step's scores."""
        products, self._products = self._products, None
        if products is None:
            return
        all_reduce(products, 'mean')
        finite = products.isfinite().all()
        self.scores += torch.where(finite, self.score(products), 0)
        self.steps += finite

    def take_scores(self) -> Tensor:
        """The mean of the scores over the steps of this pass, (T,); then a new sum begins."""
        found = self.scores / self.steps.clamp(min=1)
        self.scores.zero_()
        self.steps.zero_()
        return found
