"""Pictures of a segmentation: input, truth, predictions, and where tokens look in every block."""

from pathlib import Path
from typing import Dict, List, Optional, Sequence

import matplotlib
import numpy as np

from lspt_mm.analysis.attention import BlockAttention

matplotlib.use('Agg')  # files only, on machines without a screen

from matplotlib import pyplot as plt  # noqa: E402


def colour(label: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Class numbers (H, W), 255 ignored, to RGB (H, W, 3) uint8; ignored pixels are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    return table[label]


def draw_segmentation(
    path: Path,
    image: np.ndarray,
    labels: Dict[str, np.ndarray],
    palette: Sequence[Sequence[int]],
    attention: List[BlockAttention],
) -> None:
    """Write one picture: image and labels above, attention of all blocks below.

    Args:
        path: PNG file to write.
        image: (H, W, 3) uint8 RGB.
        labels: Title to class numbers (H, W), such as truth and predictions.
        palette: RGB of each class.
        attention: Of this one image (batch size 1), averaged over heads and prompts here.
    """
    columns = max(len(attention), 1 + len(labels))
    figure, axes = plt.subplots(3, columns, figsize=(1.7 * columns, 5.6), squeeze=False)
    for axis in axes.flat:
        axis.axis('off')
    axes[0, 0].imshow(image)
    axes[0, 0].set_title('input', fontsize=8)
    for axis, (title, label) in zip(axes[0, 1:], labels.items(), strict=False):
        axis.imshow(colour(label, palette))
        axis.set_title(title, fontsize=8)
    for column, block in enumerate(attention):
        askers = {'class token': block.cls, 'prompts': block.prompts}
        for row, (name, weights) in enumerate(askers.items(), 1):
            if weights is None:
                continue
            grid = weights[0].float().flatten(0, -3).mean(0).cpu().numpy()  # (h, w)
            axis = axes[row, column]
            _lay_over(axis, image, grid)
            axis.set_title(f'{name}, block {block.number}', fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


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
    figure, axes = plt.subplots(
        len(rows), columns + 1, figsize=(1.15 * (columns + 1), height * len(rows) + 0.2),
        squeeze=False, layout='constrained',
    )  # fmt: skip
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
    plt.close(figure)


def _lay_over(axis, image: np.ndarray, grid: np.ndarray) -> None:
    """An image with a map (h, w) over it."""
    axis.imshow(image)
    axis.imshow(
        grid, cmap='inferno', alpha=0.75, interpolation='bilinear', vmin=0,
        extent=(0, image.shape[1], image.shape[0], 0),
    )  # fmt: skip
