"""Colours of labels, and pictures of where tokens look in every block."""

from pathlib import Path
from typing import Dict, List, Optional, Sequence

import numpy as np
from matplotlib.figure import Figure  # not pyplot, which would want a screen


def colour(label: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Class numbers (H, W), 255 ignored, to RGB (H, W, 3) uint8; ignored pixels are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    return table[label]


def draw_attention(
    path: Path, image: np.ndarray, rows: Dict[str, List[Optional[np.ndarray]]]
) -> None:
    """Write one picture of attention side by side: a row for each title, a column for each block.

    Args:
        path: PNG file to write.
        image: (H, W, 3) uint8 RGB.
        rows: Title, such as a method and who asks, to the map (h, w) of each block, from block 1
            on; None where there is none. Each map is drawn from 0 to its own peak.
    """
    columns = max(map(len, rows.values()))
    height = 1.15 * image.shape[0] / image.shape[1] + 0.05
    size = (1.15 * (columns + 1), height * len(rows) + 0.2)
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(len(rows), columns + 1, squeeze=False)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_frame_on(False)
    for line, (title, maps) in zip(axes, rows.items(), strict=True):
        line[0].imshow(image)
        line[0].set_ylabel(title, fontsize=7)
        for axis, grid in zip(line[1:], maps, strict=False):
            if grid is not None:
                _lay_over(axis, image, grid)
    for number, axis in enumerate(axes[0, 1:], 1):
        axis.set_title(f'block {number}', fontsize=7)
    figure.savefig(path, dpi=150)


def _lay_over(axis, image: np.ndarray, grid: np.ndarray) -> None:
    """An image with a map (h, w) over it."""
    axis.imshow(image)
    axis.imshow(
        grid, cmap='inferno', alpha=0.75, interpolation='bilinear', vmin=0,
        extent=(0, image.shape[1], image.shape[0], 0),
    )  # fmt: skip
