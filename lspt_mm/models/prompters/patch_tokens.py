"""Patch tokens of training images in the plain ViT, for methods initialised from them."""

from typing import Dict, Iterator, Tuple

import torch
from torch import Tensor, nn


@torch.no_grad()
def patch_tokens(
    vit: nn.Module, batches, blocks, ln1: bool = False, position: bool = True
) -> Iterator[Dict[int, Tensor]]:
    """Yield patch tokens that enter blocks of the ViT without prompts, batch by batch.

    Args:
        vit: A :class:`PromptedViT`.
        batches: Iterable of images (B, 3, H, W).
        blocks: Numbers of blocks, from 1.
        ln1: Whether to take the tokens after the block's first norm, as attention does.
        position: Whether the tokens of block 1 have their position embedding.

    Yields:
        dict: number of the block to (B, N, D).
    """
    for images in batches:
        found: Dict[int, Tensor] = {}

        def keep(step, found=found):
            if step.number in blocks:
                x = vit.block(step.number).norm1(step.x_in) if ln1 else step.x_in
                found[step.number] = x[:, vit.num_prefix_tokens :]

        vit.unroll(images, keep, prompted=False)
        if 1 in found and not position:
            found[1] = vit.patches(images)
        for x in found.values():
            check_finite(x)
        yield found


def mean_patches(vit: nn.Module, batches, blocks) -> Tuple[Tensor, Tensor, int]:
    """Statistics of the mean patch that enters blocks of the ViT without prompts, over images.

    Args:
        vit: A :class:`PromptedViT`.
        batches: Iterable of images (B, 3, H, W).
        blocks: Numbers of blocks, from 1.

    Returns:
        tuple: mean and standard deviation (blocks, D), float64, at least 1e-6; number of images.

    Raises:
        ValueError: For fewer than two images.
    """
    found = [
        torch.stack([tokens[block].double().mean(1) for block in blocks])
        for tokens in patch_tokens(vit, batches, blocks)
    ]
    count = sum(means.size(1) for means in found)
    if count < 2:
        raise ValueError(f'{count} images have no deviation; expected at least 2')
    means = torch.cat(found, dim=1)  # (blocks, images, D)
    return means.mean(1), means.std(1).clamp(min=1e-6), count


def check_finite(tokens: Tensor) -> None:
    """Raise ValueError unless all values are finite numbers."""
    if not bool(tokens.isfinite().all()):
        raise ValueError(
            'patch tokens are not finite numbers: the images, their normalisation or the '
            "ViT's weights are at fault"
        )
