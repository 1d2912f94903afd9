"""Prompts from frequency bands of images, the start of PAE's modal pre-alignment."""

from typing import List, Tuple

import torch
from torch import Tensor, nn

#: Side of a band's window in the spectrum, and the distance of neighbours.
WINDOW, STRIDE = 16, 8


def windows(height: int, width: int) -> List[Tuple[slice, slice]]:
    """Windows of the centred spectrum of an image, row by row."""
    starts = (range(0, max(size - WINDOW, 0) + 1, STRIDE) for size in (height, width))
    rows, columns = (list(one) for one in starts)
    return [(slice(r, r + WINDOW), slice(c, c + WINDOW)) for r in rows for c in columns]


@torch.no_grad()
def band_prompts(
    vit: nn.Module, images: Tensor, num_tokens: int, start_block: int
) -> Tuple[Tensor, str]:
    r"""Prompts of all blocks from the P strongest bands of some images.

    Prompt r of the first block is the mean of the patch tokens E of the images that have only band
    r, weighted by :math:`\lVert E \rVert^2`. The next block's are block l's output for these
    prompts alone, and so on. The paper ranks the bands by the loss of an untrained head, which says
    next to nothing of them. Here it is by their power in the images (ours).

    Args:
        vit: A :class:`PromptedViT`.
        images: (B, 3, H, W).
        num_tokens: P.
        start_block: First block with prompts.

    Returns:
        tuple: prompts (L', P, D), and a line for the log.

    Raises:
        ValueError: If the images have fewer bands than P, or values that are not finite.
    """
    spectrum = torch.fft.fftshift(torch.fft.fft2(images.float()), dim=(-2, -1))
    power = spectrum.abs().square().sum((0, 1))  # (H, W)
    bands = windows(*power.shape)
    if len(bands) < num_tokens:
        raise ValueError(
            f'images of {power.size(0)} x {power.size(1)} pixels have {len(bands)} frequency bands,'
            f' fewer than the {num_tokens} prompts; use fewer prompts or larger images'
        )
    strength = torch.stack([power[band].sum() for band in bands])
    if not bool(strength.isfinite().all()):
        raise ValueError('the images have values that are not finite numbers')
    chosen = strength.argsort(descending=True, stable=True)[:num_tokens].tolist()
    prompts = torch.cat([_tokens_of(vit, spectrum, bands[i], start_block, images) for i in chosen])
    found = [prompts[None]]
    for number in range(start_block, vit.num_layers):
        found.append(vit.plain_block(number, found[-1], None))
    return torch.cat(found), f'prompts started from {num_tokens} of {len(bands)} frequency bands'


def _tokens_of(vit, spectrum: Tensor, band, start_block: int, images: Tensor) -> Tensor:
    """Mean patch token of images with one band, (1, D)."""
    kept = torch.zeros_like(spectrum)
    kept[(..., *band)] = spectrum[(..., *band)]
    only = torch.fft.ifft2(torch.fft.ifftshift(kept, dim=(-2, -1))).real.to(images)
    x, _, ropes = vit.embed(only)
    for number in range(1, start_block):
        x = vit.plain_block(number, x, None if ropes is None else ropes[number - 1])
    x = x[:, vit.num_prefix_tokens :].flatten(0, 1)
    weights = x.square().sum(-1, keepdim=True)
    return ((weights * x).sum(0) / weights.sum())[None]
