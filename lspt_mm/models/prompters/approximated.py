"""Approximated Prompt Tuning (Approximated PT, arXiv 2306.15706)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.models.block_adapter import BlockAdapter
from lspt_mm.models.prompters.base import TokenFreePrompter
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_int


@PROMPTERS.register_module()
class ApproximatedPrompt(TokenFreePrompter):
    r"""Adds the effect of deep prompts to the output of attention, without attending to them.

    With u the tokens after the first norm of block l, and y the output of its attention after the
    projection:

    .. math::
        & A = \operatorname{relu}\left(u (M_l + M_l W^1_l W^2_l)^T\right), \quad
          w = \max_j A_{:,j} \\
        & y \leftarrow (y + w \odot A M_l) \, e^{s_l}

    w has one number for each token, and no gradient. The paper describes a softmax; this follows
    the authors' code, where it is a relu. LayerScale, where the ViT has one, and the residual come
    after this (ours; the authors' models have no LayerScale).

    Args:
        num_tokens (int): P, rows of M. The paper's: 200; the authors' file has 50.
        rank (int): r, 1 to D. The paper's: 4.
        dropout (float): On A, but not in w; each image and token has its own mask.
        start_block (int): First block with prompts, from 1.

    Attributes:
        prompts (Parameter): M, (L', P, D), start N(0, 0.02^2).
        down (Parameter): :math:`W^1`, (L', D, r), start N(0, 1).
        up (Parameter): :math:`W^2`, (L', r, D), start 0.
        log_scales (Parameter): s, (L',), start 0.

    Parameters in all: L' (P D + 2 r D + 1).
    """

    def __init__(
        self,
        num_tokens: int,
        rank: int = 4,
        dropout: float = 0.0,
        start_block: int = 1,
        **vit,
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        check_int('rank', rank, 1, self.embed_dims)
        blocks, width = self.num_prompted, self.embed_dims
        self.prompts = nn.Parameter(0.02 * torch.randn(blocks, num_tokens, width))
        self.down = nn.Parameter(torch.randn(blocks, width, rank))
        self.up = nn.Parameter(torch.zeros(blocks, rank, width))
        self.log_scales = nn.Parameter(torch.zeros(blocks))

    def adapter(self, l: int) -> BlockAdapter:
        """The change of attention's output in block l."""
        step = l - self.start_block
        prompts = self.prompts[step]
        keys = prompts + prompts @ self.down[step] @ self.up[step]
        dropout = self.dropout if self.training else 0.0
        return _Approximation(prompts, keys, self.log_scales[step].exp(), dropout)


class _Approximation(BlockAdapter):
    def __init__(self, prompts: Tensor, keys: Tensor, scale: Tensor, dropout: float):
        self.prompts, self.keys, self.scale, self.dropout = prompts, keys, scale, dropout

    def attention_output(self, out: Tensor, normed: Tensor) -> Tensor:
        found = (normed @ self.keys.T.to(normed.dtype)).relu()  # (B, T, P)
        weight = found.detach().amax(dim=-1, keepdim=True)
        found = F.dropout(found, self.dropout)
        return (out + weight * (found @ self.prompts.to(found.dtype))) * self.scale
