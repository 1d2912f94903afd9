"""What a ViT gives out of a block's tokens: the ``out_type``."""

from typing import Callable, Optional, Tuple

from torch import Tensor, cat

from lspt_mm.errors import InputError
from lspt_mm.models.tokens import Tokens

#: Means that are taken before the final norm.
POOLED = frozenset({'avg_tokens', 'avg_patches', 'avg_prompts'})
#: Out types that read what a block makes of its prompts.
READ_PROMPTS = frozenset({'avg_tokens', 'avg_prompts'})


def out_range(out_type: str, tokens: Tokens, number: int) -> Optional[Tuple[int, int]]:
    """First token, and the one after the last, that ``out_type`` reads; None is all.

    Raises:
        InputError: For 'avg_prompts' at block ``number``, if it has none.
    """
    first_patch, end = tokens.num_prefix + tokens.num_prompts, tokens.x.size(1)
    if out_type in ('raw', 'pooled'):
        return None
    if out_type == 'cls_token':
        return 0, 1
    if out_type == 'avg_prompts':
        if not tokens.num_prompts:
            raise InputError(
                f"out_type='avg_prompts': block {number} has no prompts (see start_block; a method "
                'may also end them); take the block out of out_indices, or choose another out_type'
            )
        return tokens.num_prefix, first_patch
    # 'avg_tokens' before prompts enter, and without any, is the mean of the patches.
    return (tokens.num_prefix if out_type == 'avg_tokens' else first_patch), end


def features(
    out_type: str,
    tokens: Tokens,
    number: int,
    hw: Tuple[int, int],
    norm: Callable[[Tensor], Tensor],
    pool: Callable[[Tensor], Tensor],
    num_cls: int,
    cut: bool,
) -> Tensor:
    """``out_type`` of the tokens that block ``number`` made.

    Args:
        out_type: As of ``PromptedViT`` and ``TimmPromptedViT``.
        tokens: All tokens of the block, or with ``cut`` those in :func:`out_range` alone.
        number: The block, from 1.
        hw: Rows and columns of patches.
        norm: The final norm, or the identity.
        pool: What 'avg_featmap' does with normed patches, 'pooled' with all tokens but prompts.
        num_cls: 1 with a class token, else 0: registers are of no output.
        cut: Whether the block computed only what is read.
    """
    if out_type == 'pooled':
        return pool(tokens.without_prompts)
    if out_type == 'raw':
        x = norm(tokens.without_prompts)
        if tokens.num_prefix == num_cls:
            return x
        return cat((x[:, :num_cls], x[:, tokens.num_prefix :]), dim=1)
    first, end = (0, None) if cut else out_range(out_type, tokens, number)
    x = tokens.x[:, first:end]
    if out_type in POOLED:
        return norm(x.mean(dim=1))  # (B, D)
    x = norm(x)
    if out_type == 'cls_token':
        return x[:, 0]
    if out_type == 'featmap':
        return x.transpose(1, 2).unflatten(2, hw)  # (B, D, h, w)
    return pool(x)
