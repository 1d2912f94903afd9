"""Bilinear upsampling of logits by strips of rows, equal to that of the whole."""

from typing import Tuple

import torch
from torch import Tensor
from torch.nn import functional as F

#: Numbers per strip: fits a CPU's cache; enough to keep a GPU busy (128 MiB).
CHUNK_CPU, CHUNK_GPU = 1 << 20, 1 << 25


def chunk_size(device: torch.device) -> int:
    """Numbers that a strip should have on a device."""
    return CHUNK_CPU if device.type == 'cpu' else CHUNK_GPU


def neighbours(
    size: int, larger: int, align_corners: bool, device
) -> Tuple[Tensor, Tensor, Tensor]:
    """For each of ``larger`` rows, the two of ``size`` it lies between, and the second's share.

    As in PyTorch: with ``align_corners`` the centres of the outer rows coincide, otherwise the
    outer edges do, and rows outside the centres use the outermost row.
    """
    row = torch.arange(larger, device=device, dtype=torch.float32)
    if align_corners:
        at = row * ((size - 1) / (larger - 1) if larger > 1 else 0.0)
    else:
        at = ((row + 0.5) * (size / larger) - 0.5).clamp(min=0)
    above = at.long().clamp(max=size - 1)
    return above, (above + 1).clamp(max=size - 1), at - above


def resized_rows(
    logits: Tensor, offset: int, height: int, size: Tuple[int, int], rows: Tuple[int, int],
    align_corners: bool,
) -> Tensor:
    """Rows ``rows`` of the bilinear resize of a map to ``size``.

    Args:
        logits: Rows of the map from ``offset`` on, (B, K, n, w); at least those that
            :func:`source_rows` names.
        offset: Of the first of them in the map.
        height: Number of rows of the map.
        size: Height and width of the result.
        rows: First row of the result, and the one after the last.
        align_corners: As of ``torch.nn.functional.interpolate``.

    Returns:
        Tensor: (B, K, end - first, width), float32.
    """
    first, end = rows
    if (height, logits.size(3)) == tuple(size):
        return logits[:, :, first - offset : end - offset].float()
    above, below, share = neighbours(height, size[0], align_corners, logits.device)
    up, down, by = above[first:end] - offset, below[first:end] - offset, share[first:end, None]
    # Rows first, while these are short.
    low = torch.lerp(logits[:, :, up].float(), logits[:, :, down].float(), by)
    return F.interpolate(
        low, (end - first, size[1]), mode='bilinear', align_corners=align_corners
    )


def source_rows(
    height: int, larger: int, rows: Tuple[int, int], align_corners: bool
) -> Tuple[int, int]:
    """Rows (first, end) of a map of ``height`` that ``rows`` of its resize to ``larger`` read."""
    above, below, _ = neighbours(height, larger, align_corners, 'cpu')
    return int(above[rows[0]]), int(below[rows[1] - 1]) + 1
