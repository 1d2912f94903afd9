"""Colours of classes, and masks over images."""

from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lspt_mm.utils.images import spread_colours


def colour(label: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Class numbers (H, W), 255 ignored, to RGB (H, W, 3) uint8; ignored pixels are black."""
    table = np.zeros((max(256, len(palette)), 3), np.uint8)
    table[: len(palette)] = palette
    return np.take(table, label, axis=0)  # faster than table[label]


def colours_of(count: int, palette: Optional[Sequence] = None) -> List[Tuple[int, int, int]]:
    """A colour for each of ``count`` classes: the palette if it fits, else distinct hues."""
    if palette is not None and len(palette) == count:
        return [tuple(int(value) for value in colour) for colour in palette]
    return spread_colours(count)


def shares_of(labels: np.ndarray, count: int) -> Dict[int, float]:
    """Share of the pixels (H, W) of each class below ``count`` that occurs, the largest first."""
    counts = np.bincount(labels.ravel(), minlength=count)[:count]
    order = (-counts).argsort(kind='stable')
    return {int(n): float(counts[n] / labels.size) for n in order if counts[n]}


def label_image(labels: np.ndarray, palette: Sequence[Sequence[int]]) -> Image.Image:
    """Class numbers (H, W) as an image with the classes' colours as its palette.

    With more than 256 classes, which a palette cannot hold, a grey image of 16 bits.
    """
    if len(palette) > 256:
        return Image.fromarray(labels.astype(np.uint16))
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(table.ravel().tolist())
    return image


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
    if factor > 1:
        mask = mask.repeat(factor, 0).repeat(factor, 1)
    lines = np.zeros(mask.shape[:2], bool)
    lines[:, 1:] |= _differ(mask[:, 1:], mask[:, :-1])
    lines[1:] |= _differ(mask[1:], mask[:-1])
    mixed = cv2.addWeighted(large, 1 - opacity, mask, opacity, 0)
    of_lines = (1 - opacity) * large[lines] + opacity * mask[lines]
    mixed[lines] = np.round(of_lines * (1 - 0.6 * (opacity > 0)))
    return mixed


def _differ(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where two RGB images (H, W, 3) differ, (H, W) bool."""
    unequal = one != other
    return unequal[..., 0] | unequal[..., 1] | unequal[..., 2]  # any(-1) takes thrice as long


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
    rows = [(classes[i], tuple(map(int, palette[i])), share)
            for i, share in shares_of(mask, len(classes)).items()]
    legend = _legend(rows, left.height)
    size = (left.width + legend.width, max(left.height, legend.height))
    picture = Image.new('RGB', size, 'white')
    picture.paste(left, (0, 0))
    picture.paste(legend, (left.width, 0))
    return picture


def _legend(rows: List[Tuple[str, tuple, float]], height: int) -> Image.Image:
    """Swatch, name and share of each class; the font grows with the picture."""
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
    """DejaVu Sans, which matplotlib ships."""
    import matplotlib

    return str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf')


def draw_sheet(
    tiles: Sequence[Tuple[str, np.ndarray, np.ndarray]], rows: Sequence[Tuple[str, tuple, float]]
) -> Image.Image:
    """A sheet of images with their classes drawn in, four in a row, and one legend.

    Args:
        tiles: Title, image (H, W, 3) uint8 RGB, and class numbers (H, W), 255 for none.
        rows: Name, RGB and share of each class.
    """
    side, letters = 320, 14
    legend = _legend(rows, side)
    height = max(-(-len(tiles) // 4) * (side + 2 * letters), legend.height)
    picture = Image.new('RGB', (4 * side + legend.width, height), 'white')
    picture.paste(legend, (4 * side, 0))
    draw, font = ImageDraw.Draw(picture), ImageFont.truetype(_font_file(), letters)
    palette = [rgb for _, rgb, _ in rows]
    for i, (title, image, labels) in enumerate(tiles):
        left, top = i % 4 * side, i // 4 * (side + 2 * letters)
        scale = (side - 8) / max(image.shape[:2])
        small = Image.fromarray(image).resize(
            [max(1, round(scale * length)) for length in image.shape[1::-1]]
        )
        mask = Image.fromarray(labels).resize(small.size, Image.Resampling.NEAREST)
        drawn = mask_over(np.asarray(small), colour(np.asarray(mask), palette), least_side=1)
        draw.text((left, top), title[-44:], fill='black', font=font)
        picture.paste(Image.fromarray(drawn), (left, top + round(1.5 * letters)))
    return picture
