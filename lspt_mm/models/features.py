"""Outputs of a ViT, from a block's tokens by ``out_type``."""

from typing import Callable, Optional, Tuple

from torch import Tensor, cat

from lspt_mm.errors import InputError
from lspt_mm.models.tokens import Tokens

#: Means that are taken before the final norm.
POOLED = frozenset({'avg_tokens', 'avg_patches', 'avg_prompts'})
#: Out types that read a block's outputs at the prompts.
READ_PROMPTS = frozenset({'avg_tokens', 'avg_prompts'})


def out_range(out_type: str, tokens: Tokens, number: int) -> Optional[Tuple[int, int]]:
    """Range of tokens (first, end) that ``out_type`` reads; None is all.

    Raises:
        InputError: For 'avg_prompts' if block ``number`` has no prompts.
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
    # 'avg_tokens' is the mean of the patches before prompts enter and without prompts.
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
    """Compute ``out_type`` from the output tokens of block ``number``.

    Args:
        out_type: As of ``PromptedViT`` and ``TimmPromptedViT``.
        tokens: All tokens of the block, or with ``cut`` only those in :func:`out_range`.
        number: The block, from 1.
        hw: Rows and columns of patches.
        norm: The final norm, or the identity.
        pool: Pools normed patches for 'avg_featmap', all tokens except prompts for 'pooled'.
        num_cls: 1 with a class token, else 0; registers are never returned.
        cut: Whether the block computed only the tokens that are read.
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
