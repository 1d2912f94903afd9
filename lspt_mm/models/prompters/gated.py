"""Gated Prompt Tuning with adaptive attention shaping (GaPT, arXiv 2306.05067)."""

from typing import Dict, Optional, Tuple

import torch
from torch import Tensor, nn

from lspt_mm.models.prompters.base import Prompter, vpt_uniform
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_bool, check_choice, check_number

#: The range of a temperature (the authors' code).
COLDEST, HOTTEST = 0.01, 10.0


@PROMPTERS.register_module()
class GatedPrompt(Prompter):
    r"""Prompts inserted once, with a gate per block for the share of the block's output.

    With :math:`\hat P_l` the outputs of block l at its prompts :math:`P_{l-1}`:

    .. math::
        g_l &= \sigma(\gamma_l), \qquad
        P_l = g_l \hat P_l + (1 - g_l) P_{l-1}, \quad l = 1 .. L-1 \\
        A_l &= \operatorname{softmax}(q k^T / (\sqrt{d} \, \tau_l)), \quad l = 1 .. L

    Args:
        num_tokens (int): P, the number of prompts.
        gate_init (float): :math:`-\gamma_l` at the start, the sign of the paper's tables: 5
            means a gate of sigmoid(-5) = 0.0067, so that inserted prompts reach the last block
            almost unchanged.
        hard (bool): Gates of 0 or 1: Gumbel noise, one draw per step, and straight-through
            gradients in training; otherwise the more likely value. The paper finds it worse.
        shaping (bool): Learn a temperature :math:`\tau_l` of all tokens' attention in every block
            that has prompts, kept in [0.01, 10].
        dropout (float): On the inserted prompts (the paper's: 0.1).
        start_block (int): First block with prompts, from 1.
        dropout_mask (str): One mask per step, shared by the batch (``'step'``), or one per image
            (``'image'``, the authors').

    Attributes:
        prompts (Parameter): (1, P, D), VPT's uniform initialisation.
        gate_logits (Parameter or None): gamma, (L'-1,); None where L' = 1.
        temperatures (Parameter or None): tau, (L',), start 1; None without ``shaping``.

    Parameters in all: P D + (L'-1), and L' more with ``shaping``.
    """

    TRAINING_ONLY = ('dropout', 'gate_init', 'dropout_mask')

    def __init__(
        self,
        num_tokens: int,
        gate_init: float = 5.0,
        hard: bool = False,
        shaping: bool = True,
        dropout: float = 0.0,
        start_block: int = 1,
        dropout_mask: str = 'step',
        **vit,
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        check_choice('dropout_mask', dropout_mask, ('step', 'image'))
        check_number('gate_init', gate_init)
        check_bool('hard', hard)
        check_bool('shaping', shaping)
        self.hard = hard
        self.dropout_mask = dropout_mask
        self.prompts = vpt_uniform(
            1, num_tokens, self.embed_dims, patch_size=self.patch_size, embed_dims=self.embed_dims
        )
        steps = self.num_prompted - 1
        self.gate_logits = nn.Parameter(torch.full((steps,), -float(gate_init))) if steps else None
        self.temperatures = nn.Parameter(torch.ones(self.num_prompted)) if shaping else None

    def first(self, patches: Tensor, grid: Tuple[int, int]) -> Tuple[Tensor, Optional[Tensor]]:
        """P_0, and the gates of all blocks, drawn once per step."""
        prompts = self.prompts
        if self.dropout_mask == 'image' and self.dropout and self.training:
            prompts = prompts.expand(patches.size(0), -1, -1)
        return self.drop(prompts), self.gates()

    def next(
        self, l: int, prompts_in: Tensor, prompts_out: Tensor, patches: Tensor, state: Tensor
    ) -> Tuple[Tensor, Tensor]:
        """P_l = g_l * (block output) + (1 - g_l) * P_{l-1}."""
        gate = state[l - self.start_block].to(prompts_out.dtype)
        return torch.lerp(prompts_in.to(prompts_out.dtype), prompts_out, gate), state

    def gates(self) -> Optional[Tensor]:
        """g of the blocks start_block .. L-1, (L'-1,)."""
        if self.gate_logits is None or not self.hard:
            return None if self.gate_logits is None else self.gate_logits.sigmoid()
        logits = self.gate_logits
        if self.training:
            # The difference of two Gumbel variables is logistic.
            u = torch.rand_like(logits).clamp(min=torch.finfo(logits.dtype).tiny)
            logits = logits + u.log() - torch.log1p(-u)
        return straight_through((logits > 0).to(logits.dtype), logits.sigmoid())

    def temperature(self, l: int) -> Optional[Tensor]:
        """tau_l in [0.01, 10]; its gradient ignores the bounds, so that it can return."""
        if self.temperatures is None:
            return None
        tau = self.temperatures[l - self.start_block]
        return straight_through(tau.clamp(COLDEST, HOTTEST), tau)

    @torch.no_grad()
    def per_block_stats(self) -> Dict[str, Dict[int, float]]:
        """Gates, temperatures, and the selection ratio, with inserted prompts as block 0."""

        def by_block(values: Optional[Tensor]) -> Dict[int, float]:
            return {} if values is None else dict(enumerate(values.tolist(), self.start_block))

        tau = self.temperatures
        inserted, *shares = self.selection_ratio.tolist()
        return {
            'gate g (1: takes up all of the block)': by_block(self.gates()),
            'temperature': by_block(None if tau is None else tau.clamp(COLDEST, HOTTEST)),
            "share in the last block's prompts (0: inserted)": {
                0: inserted, **dict(enumerate(shares, self.start_block))
            },
        }

    @property
    def selection_ratio(self) -> Tensor:
        r"""Share of each block's output in the prompts of the last block (the paper's figure 4).

        :math:`r_l \propto g_l \prod_{k>l} (1 - g_k)`, with :math:`g_0 = 1` for inserted prompts:
        (L',) for l = 0 (inserted), start_block .. L-1, summing to 1. No gradient.
        """
        if self.gate_logits is None:
            return self.prompts.new_ones(1)
        gates = self.gate_logits.detach()
        gates = (gates > 0).to(gates.dtype) if self.hard else gates.sigmoid()
        one = gates.new_ones(1)
        passed_on = torch.cat((1 - gates, one)).flip(0).cumprod(0).flip(0)  # prod_{k>l} (1 - g_k)
        return torch.cat((one, gates)) * passed_on


def straight_through(value: Tensor, gradient: Tensor) -> Tensor:
    """Return ``value`` exactly; pass the gradient to ``gradient``."""
    return value.detach() + (gradient - gradient.detach())
