"""Pictures of attention in every block, and of curves."""

from pathlib import Path
from typing import Dict, List, Optional, Sequence

import numpy as np
from matplotlib.figure import Figure  # pyplot would need a display


def draw_attention(
    path: Path, image: np.ndarray, rows: Dict[str, List[Optional[np.ndarray]]]
) -> None:
    """Write one picture of attention side by side: a row for each title, a column for each block.

    Args:
        path: PNG file to write.
        image: (H, W, 3) uint8 RGB.
        rows: Title, such as a method and the queries, to the map (h, w) of each block, from
            block 1 on; None where there is none. Each map is drawn from 0 to its own peak.
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
    )


def draw_curves(panels: Dict[str, Dict[str, Sequence]], x: str, path: Path) -> None:
    """Draw curves in panels, one below the other.

    Args:
        panels: Label of the vertical axis to name of a run to pairs (x, y).
        x: Label of the horizontal axis.
        path: File to write; its suffix sets the format.
    """
    figure = Figure(figsize=(7, max(4.5, 3 * len(panels))), layout='constrained')
    for axis, (label, curves) in zip(
        figure.subplots(len(panels), squeeze=False)[:, 0], panels.items(), strict=True
    ):
        for name, curve in curves.items():
            marker = 'o' if len(curve) < 30 else None
            axis.plot(*zip(*curve, strict=True), label=name, linewidth=1.2, marker=marker, ms=3)
        axis.set(xlabel=x, ylabel=label)
        axis.grid(alpha=0.3)
        axis.legend(fontsize='small')
    figure.savefig(path, dpi=120)
