"""Tokens that refine the patches after every block (Rein, arXiv 2312.04265)."""

from typing import Optional

import torch
from torch import Tensor, nn

from lspt_mm.models.block_adapter import BlockAdapter
from lspt_mm.models.prompters.base import TokenFreePrompter, vpt_uniform
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_int, check_number


@PROMPTERS.register_module()
class Rein(TokenFreePrompter):
    r"""Adds to the patches after each block what they find in learnable tokens.

    With patches x after block l and tokens :math:`T_l` (P, D), of which the first one only takes
    up attention:

    .. math::
        & \Delta = W_f \, (A_{:,2:} \, (W_t T_l)_{2:} + x), \qquad
          A = \operatorname{softmax}(x T_l^T / \sqrt D) \\
        & x \leftarrow x + s \, \Delta

    :math:`W_f, W_t` (with biases) and s are shared by all blocks. The authors also pass queries
    made from the tokens to Mask2Former; this is the part in the backbone. With a head that reads
    only the class token, the last block's tokens have no effect and no gradient.

    Args:
        num_tokens (int): P. The paper's: 100.
        rank (int, optional): Tokens as products of rank r, at least 1. The paper's: 16; None
            stores them as they are.
        scale (float): s at the start, 0 to 1. With 0 the ViT starts unchanged, but then only s has
            a gradient in the first step.
        dropout (float): On the tokens. The paper's: 0.
        start_block (int): First block with tokens, from 1.

    Attributes:
        tokens (Parameter): (L', P, D), VPT's uniform initialisation; None with ``rank``.
        left (Parameter): (L', P, r), U(-v, v), v = sqrt(6 / (3 patch^2 + sqrt(D r))); None without
            ``rank``, as ``right``.
        right (Parameter): (L', r, D), likewise.
        token_to_feature (Linear): :math:`W_t`, PyTorch's initialisation.
        delta (Linear): :math:`W_f`, likewise.
        scale (Parameter): s.

    Parameters in all: L' P D + 2 (D^2 + D) + 1, or with ``rank`` L' r (P + D) in place of L' P D.
    """

    TRAINING_ONLY = ('dropout', 'scale')

    def __init__(
        self,
        num_tokens: int,
        rank: Optional[int] = None,
        scale: float = 1e-3,
        dropout: float = 0.0,
        start_block: int = 1,
        **vit,
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        check_number('scale', scale, 0)
        if scale > 1:
            raise ValueError(f'scale={scale!r}: expected a number from 0 to 1')
        size, blocks, width = self.patch_size, self.num_prompted, self.embed_dims
        self.tokens = self.left = self.right = None
        if rank is None:
            self.tokens = vpt_uniform(blocks, num_tokens, width, patch_size=size, embed_dims=width)
        else:
            check_int('rank', rank, 1, width)
            bound = dict(patch_size=size, embed_dims=(width * rank) ** 0.5)
            self.left = vpt_uniform(blocks, num_tokens, rank, **bound)
            self.right = vpt_uniform(blocks, rank, width, **bound)
        self.token_to_feature = nn.Linear(width, width)
        self.delta = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.tensor(float(scale)))

    def adapter(self, l: int) -> BlockAdapter:
        """The refinement after block l."""
        step = l - self.start_block
        tokens = self.left[step] @ self.right[step] if self.tokens is None else self.tokens[step]
        return _Refine(self, self.drop(tokens))


class _Refine(BlockAdapter):
    def __init__(self, rein: Rein, tokens: Tensor):
        self.rein, self.tokens = rein, tokens

    def block_output(self, x: Tensor, leading: int) -> Tensor:
        rein, tokens = self.rein, self.tokens.to(x.dtype)
        before, patches = x[:, :leading], x[:, leading:]
        found = (patches @ tokens.T * x.size(-1) ** -0.5).softmax(dim=-1)
        delta = found[..., 1:] @ rein.token_to_feature(tokens)[1:]
        patches = patches + rein.scale * rein.delta(delta + patches)
        return torch.cat((before, patches), dim=1) if leading else patches
