"""Attention Prompt Tuning, for images (APT, arXiv 2403.06978)."""

from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from lspt_mm.models.prompters.base import Prompter, TokenFreePrompter, vpt_uniform
from lspt_mm.models.prompters.gated import straight_through
from lspt_mm.registry import PROMPTERS


@PROMPTERS.register_module()
class APT(TokenFreePrompter):
    r"""Learnable keys and values in every block's attention, shared by its heads.

    With keys k and values v of a head of block l:

    .. math::
        k \leftarrow [k ; \max(s^k_l, 1) \, p^k_l], \qquad
        v \leftarrow [v ; \max(s^v_l, 1) \, p^v_l]

    The paper tunes VideoMAE on clips; this is the same for images. In the authors' code a scale
    that falls below 1 has no gradient any more and stays there; here its gradient ignores the
    bound.

    Args:
        num_tokens (int): P, the number of keys and of values.
        dropout (float): On keys and values. The paper's: 0.1.
        start_block (int): First block with prompts, from 1.

    Attributes:
        prompts (Parameter): (L', 2, P, d), keys and values; U(-v, v),
            v = sqrt(6 / (3 patch^2 + d)).
        scales (Parameter): s, (L', 2, P), start 1.

    Parameters in all: 2 L' P d + 2 L' P.
    """

    def __init__(self, num_tokens: int, dropout: float = 0.0, start_block: int = 1, **vit):
        super().__init__(num_tokens, dropout, start_block, **vit)
        width = self.embed_dims // self.num_heads
        self.prompts = vpt_uniform(
            self.num_prompted, 2, num_tokens, width, patch_size=self.patch_size, embed_dims=width
        )
        self.scales = nn.Parameter(torch.ones(self.num_prompted, 2, num_tokens))

    def check_vit(self, vit: nn.Module) -> None:
        """Also raise ValueError if heads are not D / H wide."""
        super().check_vit(vit)
        check_head_width(self, vit)

    def keys_values(self, l: int) -> Tuple[Tensor, Tensor]:
        """Keys and values of block l, (1, 1, P, d) each."""
        step = l - self.start_block
        scales = straight_through(self.scales[step].clamp(min=1), self.scales[step])
        keys, values = self.drop(self.prompts[step] * scales[..., None])
        return keys[None, None], values[None, None]


def check_head_width(prompter: Prompter, vit: nn.Module) -> None:
    """Raise ValueError unless all blocks have H heads of width D / H for keys and values."""
    for number in range(prompter.start_block, prompter.num_layers + 1):
        block: Optional[object] = vit.block(number)
        if block.groups > 1 or set(block.widths) != {prompter.embed_dims}:
            raise ValueError(
                f'{type(prompter).__name__}: block {number} of this ViT has keys and values of '
                f'width {block.widths[1]} in all heads, expected {prompter.embed_dims}; take '
                'another ViT'
            )
