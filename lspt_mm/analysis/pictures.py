"""Pictures of a segmentation: input, truth, predictions, and where tokens look in every block."""

from pathlib import Path
from typing import Dict, List, Sequence

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
            axis.imshow(image)
            axis.imshow(
                grid, cmap='inferno', alpha=0.75, interpolation='bilinear',
                extent=(0, image.shape[1], image.shape[0], 0),
            )  # fmt: skip
            axis.set_title(f'{name}, block {block.number}', fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
