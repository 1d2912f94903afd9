"""Visual Prompt Tuning, shallow and deep (VPT, arXiv 2203.12119)."""

from typing import Optional, Tuple

from torch import Tensor, nn

from lspt_mm.models.prompters.base import Prompter, vpt_uniform
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_bool, check_choice, check_int


@PROMPTERS.register_module()
class VPT(Prompter):
    r"""Learnable prompts for the first block (shallow) or for every block (deep).

    With :math:`x` the class token, :math:`E` the patch tokens and :math:`B_l` block l:

    .. math::
        \text{shallow:}\quad & [x_l, Z_l, E_l] = B_l([x_{l-1}, Z_{l-1}, E_{l-1}]),\quad Z_0 = P \\
        \text{deep:}\quad & [x_l, \_, E_l] = B_l([x_{l-1}, P_{l-1}, E_{l-1}])

    The outputs of a block at deep prompts are discarded, so the backbone runs these prompts only
    as keys and values.

    Args:
        num_tokens (int): P, the number of prompts.
        deep (bool): New prompts in every block.
        project (int, optional): Width d of the prompts, which a linear layer shared by all blocks
            projects to D.
        dropout (float): On inserted prompts. The paper's: 0 (shallow), 0.1 (deep).
        start_block (int): First block with prompts, from 1.
        dropout_mask (str): One mask per step, shared by the batch (``'step'``, ours), or one
            per image (``'image'``, the authors'; keys and values are then per image as well).

    Attributes:
        prompts (Parameter): (K, P, D), or (K, P, d) with ``project``; K = 1 for shallow,
            L' for deep. U(-v, v), v = sqrt(6 / (3 patch^2 + width of the prompts)).
        projection (Linear or None): d to D with bias, Kaiming normal (fan_out).

    Parameters in all: K P D, or K P d + d D + D with ``project``.
    """

    TRAINING_ONLY = ('dropout', 'dropout_mask')

    def __init__(
        self,
        num_tokens: int,
        deep: bool = False,
        project: Optional[int] = None,
        dropout: float = 0.0,
        start_block: int = 1,
        dropout_mask: str = 'step',
        **vit,
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        check_bool('deep', deep)
        check_choice('dropout_mask', dropout_mask, ('step', 'image'))
        self.deep = deep
        self.dropout_mask = dropout_mask
        width = self.embed_dims
        self.projection = None
        if project is not None:
            check_int('project', project, 1)
            width = project
            self.projection = nn.Linear(width, self.embed_dims)
            nn.init.kaiming_normal_(self.projection.weight, a=0, mode='fan_out')
        sets = self.num_prompted if deep else 1
        self.prompts = vpt_uniform(
            sets, num_tokens, width, patch_size=self.patch_size, embed_dims=width
        )

    def reads_output(self, l: int) -> bool:
        """Shallow prompts are carried from block to block, deep ones discarded."""
        return not self.deep

    def input_independent(self, l: int) -> bool:
        """Deep blocks have their own prompts."""
        return self.deep or l == self.start_block

    def precompute(self) -> Tensor:
        """All prompts without dropout, (K, P, D)."""
        return self.transform(self._projected())

    def _projected(self) -> Tensor:
        return self.prompts if self.projection is None else self.projection(self.prompts)

    def transform(self, prompts: Tensor) -> Tensor:
        """What a subclass makes of prompts (..., P, D) after dropout."""
        return prompts

    def first(self, patches: Tensor, grid: Tuple[int, int]) -> Tuple[Tensor, Tensor]:
        """P_0, and the prompts of all blocks, (K, 1 or B, P, D)."""
        if self.fused is not None:
            prompts = self.fused.unsqueeze(1)  # (K, 1, P, D)
        else:
            of_image = self.dropout_mask == 'image' and self.dropout and self.training
            masks = patches.size(0) if of_image else 1
            prompts = self._projected().unsqueeze(1).expand(-1, masks, -1, -1)
            prompts = self.transform(self.drop(prompts))  # (K, 1 or B, P, D)
        return prompts[0], prompts

    def next(
        self, l: int, prompts_in: Tensor, prompts_out: Optional[Tensor], patches: Tensor, state
    ) -> Tuple[Tensor, Tensor]:
        """The next block's own prompts (deep), or the outputs of block l (shallow)."""
        return (state[l - self.start_block + 1] if self.deep else prompts_out), state
