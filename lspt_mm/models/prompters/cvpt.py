"""Cross Visual Prompt Tuning (CVPT, arXiv 2408.14961)."""

from typing import Optional

import torch
from torch import Tensor, nn

from lspt_mm.models.block_adapter import BlockAdapter
from lspt_mm.models.prompters.base import TokenFreePrompter
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_bool


@PROMPTERS.register_module()
class CVPT(TokenFreePrompter):
    r"""Prompts that the tokens of a block attend to once more, between attention and MLP.

    With tokens x of block l after its attention, and the block's own frozen attention weights:

    .. math::
        & x \leftarrow x + \gamma_l \odot \operatorname{CA}(x, P_l) \\
        & \operatorname{CA}(x, p) =
          W_o \operatorname{softmax}\left((W_q x) (W_k p)^T / \sqrt d\right) W_v p

    There is one softmax for each head, and biases as in the block. Neither x nor the prompts pass
    a norm before. Queries are not rotated, as the prompts have no position.
    :math:`\gamma_l` is the LayerScale of the block's attention where the ViT has one (ours). The
    authors' ViT has none. Norms of queries and keys and a gate of the output also apply, where the
    block has them. The authors offer five places; this is their default, and the one of
    their segmentation code.

    Args:
        num_tokens (int): P, prompts of each block. The paper's: 5 to 20, and 200 for ADE20K.
        biases (bool): Whether the biases of values and output take part, as in the authors' code.
            They add the same to all tokens. In DINOv2's ViT-S this is 60 to 90 times as large as
            what the prompts add at their start. Without them (ours) the change is
            CA(x, P) - CA(x, 0), and the ViT starts almost unchanged.
        dropout (float): On prompts. The paper's: 0.1.
        start_block (int): First block with prompts, from 1.

    Attributes:
        prompts (Parameter): (L', P, D), U(-v, v), v = sqrt(6 / ((L' + P) D)) (Xavier).

    Parameters in all: L' P D.
    """

    def __init__(
        self,
        num_tokens: int,
        biases: bool = True,
        dropout: float = 0.0,
        start_block: int = 1,
        **vit,
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        check_bool('biases', biases)
        self.biases = biases
        self.prompts = nn.Parameter(torch.empty(self.num_prompted, num_tokens, self.embed_dims))
        nn.init.xavier_uniform_(self.prompts)

    def adapter(self, l: int) -> BlockAdapter:
        """Cross attention to the prompts of block l."""
        return _CrossAttention(self.drop(self.prompts[l - self.start_block])[None], self.biases)


class _CrossAttention(BlockAdapter):
    def __init__(self, prompts: Tensor, biases: bool):
        self.prompts, self.biases = prompts, biases  # prompts: (1, P, D)

    def before_mlp(self, x: Tensor, block) -> Tensor:
        (q,) = block.project(x, 0, 1)  # (B, H, T, d)
        pair = block.project(self.prompts.to(x.dtype), 1, 3)  # once for all images
        k, v = (
            part.repeat_interleave(block.groups, dim=1).expand(x.size(0), -1, -1, -1)
            for part in pair
        )
        heads = block.attend(q, k, v).transpose(1, 2).flatten(2)
        queries: Optional[Tensor] = x if block.gated else None
        out = block.branch(heads, queries)
        if not self.biases:
            (zero,) = block.project(x.new_zeros(1, 1, x.size(-1)), 2, 3)  # a zero prompt's value
            zero = zero.repeat_interleave(block.groups, dim=1).flatten(1)[:, None]  # (1, 1, D)
            out = out - block.branch(zero, queries)
        return block.add_attention(x, out)
