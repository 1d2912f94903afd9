"""Prompt Condensation: few of many prompts are kept (Prompt Condensation, arXiv 2305.17223)."""

import torch
from torch import Tensor

from lspt_mm.models.prompters.base import Training
from lspt_mm.models.prompters.prompt_pool import PromptPool
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_number, check_share


@PROMPTERS.register_module()
class CondensedPrompt(PromptPool):
    r"""Deep prompts, of which the most important of all blocks are kept and trained on.

    After a share of the training, with the score :math:`I_i` of :class:`PromptPool` in each step
    of the pass that just ended:

    .. math::
        S_i = \operatorname{mean}_{\text{steps}} I_i^2, \qquad
        \text{keep the } \lfloor \text{keep} \cdot T + 1/2 \rfloor
        \text{ prompts with the largest } S_i

    The paper ranks the prompts of all blocks by one importance from gradients. Its exact form is
    not available to us: this Taylor score, its mean over steps, the moment, and the choice among
    all T prompts at once are our reading of the abstract. Removed prompts are set to 0, have no
    gradient, enter no block, and cost nothing but their place in the checkpoint. The optimizer's
    state of the prompts starts again.

    Args:
        num_tokens (int): P, the number of prompts of each block at the start.
        keep (float): Share of the prompts that are kept, in (0, 1]. The paper's: about 0.3.
        at (float): Share of the training's passes after which the others are removed, in [0, 1);
            not before the end of the first pass, nor after the last but one, if there are two.
            A run that ends within its first pass keeps all.
        dropout (float): On inserted prompts.
        start_block (int): First block with prompts, from 1.

    Parameters in all: L' P D, of which the share ``keep`` is trained to the end.
    """

    TRAINING_ONLY = ('dropout', 'keep', 'at')

    def __init__(
        self,
        num_tokens: int,
        keep: float = 0.3,
        at: float = 0.5,
        dropout: float = 0.0,
        start_block: int = 1,
        **vit,
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        check_number('keep', keep, 0)
        if not 0 < keep <= 1:
            raise ValueError(f'keep={keep!r}: expected a number from above 0 to 1')
        check_share('at', at)
        self.keep = keep
        self.at = at

    def score(self, products: Tensor) -> Tensor:
        """The square of :math:`I`."""
        return products.square()

    @torch.no_grad()
    def after_epoch(self, training: Training) -> str:
        """Remove prompts, once."""
        scores = self.take_scores()
        last = max(1, training.num_epochs - 1)
        if training.epoch != min(max(1, int(self.at * training.num_epochs + 0.5)), last):
            return ''
        if not scores.any():
            return 'no prompt removed: no score differs from 0'
        total = len(self.prompts)
        kept = max(1, int(self.keep * total + 0.5))
        scores = scores.masked_fill(self.block == 0, -1)
        gone = scores.argsort(descending=True, stable=True)[kept:]
        self.block[gone] = 0
        self.prompts[gone] = 0
        training.forget(self.prompts)
        counts = ', '.join(map(str, self.layout()))
        return f'kept {sum(self.layout())} of {total} prompts; by block {counts}'
