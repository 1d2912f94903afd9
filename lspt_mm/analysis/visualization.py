"""Colours of labels, and pictures of where tokens look in every block."""

from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure  # pyplot would need a display
from PIL import Image, ImageDraw, ImageFont

from lspt_mm.utils.images import spread_colours


def colour(label: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Class numbers (H, W), 255 ignored, to RGB (H, W, 3) uint8; ignored pixels are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    return table[label]


def colours_of(count: int, palette: Optional[Sequence] = None) -> List[Tuple[int, int, int]]:
    """A colour for each of ``count`` classes: the palette if it fits, else distinct hues."""
    if palette is not None and len(palette) == count:
        return [tuple(int(value) for value in colour) for colour in palette]
    return spread_colours(count)


def enlarged(image: np.ndarray, least_side: int = 640) -> np.ndarray:
    """An image (H, W, 3), enlarged by a whole number to a long side of at least ``least_side``."""
    factor = -(-least_side // max(image.shape[:2]))
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def mask_over(
    image: np.ndarray, mask: np.ndarray, opacity: float = 0.6, least_side: int = 640
) -> np.ndarray:
    """A mask in colours over its image, both (H, W, 3) uint8; dark lines separate the classes.

    Small images are :func:`enlarged`.
    """
    large = enlarged(image, least_side)
    factor = large.shape[0] // image.shape[0]
    mask = mask.repeat(factor, 0).repeat(factor, 1)
    mixed = (1 - opacity) * large + opacity * mask
    lines = np.zeros(mask.shape[:2], bool)
    lines[:, 1:] |= (mask[:, 1:] != mask[:, :-1]).any(-1)
    lines[1:] |= (mask[1:] != mask[:-1]).any(-1)
    mixed[lines] *= 1 - 0.6 * (opacity > 0)
    return np.round(mixed).astype(np.uint8)


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


def overlay(
    image: np.ndarray, mask: np.ndarray, classes: Sequence[str], palette: np.ndarray
) -> Image.Image:
    """Draw the classes of ``mask`` over ``image`` by :func:`mask_over`, with a legend.

    The legend lists the classes that occur, the largest first.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) class numbers; pixels of no class are black.
        classes: Names.
        palette: (K, 3) RGB of each class.

    Raises:
        ValueError: If mask and image differ in size.
    """
    if image.shape[:2] != mask.shape:
        raise ValueError(f'mask {mask.shape} and image {image.shape[:2]}: expected one size')
    palette = np.asarray(palette, np.uint8)
    left = Image.fromarray(mask_over(image, colour(mask, palette)))
    counts = np.bincount(mask[mask < len(palette)].ravel(), minlength=len(classes))
    order = [int(i) for i in counts.argsort(kind='stable')[::-1] if counts[i]]
    rows = [(classes[i], tuple(map(int, palette[i])), counts[i] / mask.size) for i in order]
    legend = _legend(rows, left.height)
    size = (left.width + legend.width, max(left.height, legend.height))
    picture = Image.new('RGB', size, 'white')
    picture.paste(left, (0, 0))
    picture.paste(legend, (left.width, 0))
    return picture


def _legend(rows: List[Tuple[str, tuple, float]], height: int) -> Image.Image:
    """Swatch, name and share of each class; letters grow with the picture."""
    letters = int(np.clip(height / 28, 12, 48))
    font = ImageFont.truetype(_font_file(), letters)
    texts = [f'{name}  {100 * share:.1f}%' for name, _, share in rows]
    line = round(1.5 * letters)
    widest = max((font.getlength(text) for text in texts), default=0)
    size = round(widest) + 3 * line, line * (len(rows) + 1)
    legend = Image.new('RGB', size, 'white')
    draw = ImageDraw.Draw(legend)
    for row, (text, (_, colour, _)) in enumerate(zip(texts, rows, strict=True)):
        top = line // 2 + row * line
        draw.rectangle(
            (line // 2, top, line // 2 + letters, top + letters), fill=colour, outline='black'
        )
        draw.text((2 * line, top + letters / 2), text, fill='black', font=font, anchor='lm')
    return legend


def _font_file() -> str:
    """DejaVu Sans, which matplotlib carries on every machine."""
    return str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf')


def draw_curves(panels: Dict[str, Dict[str, Sequence]], x: str, path: Path) -> None:
    """Write a picture with one panel below the other.

    Args:
        panels: Label of the vertical axis to name of a run to pairs (x, y).
        x: Label of the horizontal axis.
        path: File to write; its suffix says the format.
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
