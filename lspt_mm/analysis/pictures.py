"""Colours of labels, and pictures of where tokens look in every block."""

import colorsys
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure  # not pyplot, which would want a screen

#: Steps of the hue that lie far from all before them (the golden ratio's fraction).
_GOLDEN = 0.6180339887498949


def colour(label: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Class numbers (H, W), 255 ignored, to RGB (H, W, 3) uint8; ignored pixels are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    return table[label]


def colours_of(count: int, palette: Optional[Sequence] = None) -> List[Tuple[int, int, int]]:
    """A colour for each of ``count`` classes: the palette if it has as many, else distinct hues."""
    if palette is not None and len(palette) == count:
        return [tuple(int(value) for value in colour) for colour in palette]
    made = []
    for number in range(count):
        hue = number * _GOLDEN % 1.0
        made.append(colorsys.hsv_to_rgb(hue, (0.75, 0.5)[number % 2], (0.95, 0.7)[number // 2 % 2]))
    return [tuple(round(255 * value) for value in colour) for colour in made]


def outlines(mask: np.ndarray) -> np.ndarray:
    """Pixels (H, W) that differ from the one on their left or above; of labels or colours."""
    channels = mask.reshape(*mask.shape[:2], -1)
    found = np.zeros(mask.shape[:2], bool)
    found[:, 1:] |= (channels[:, 1:] != channels[:, :-1]).any(-1)
    found[1:] |= (channels[1:] != channels[:-1]).any(-1)
    return found


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
