"""An image with its classes over it, outlines between them, and a legend beside it."""

from pathlib import Path
from typing import List, Sequence, Tuple

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lspt_mm.analysis.pictures import outlines

#: Share of the class's colour in the mixture.
_OPACITY = 0.55
#: An image is shown with this long a shorter side at least, or its legend would not fit beside it.
_LEAST = 256


def overlay(
    image: np.ndarray, mask: np.ndarray, classes: Sequence[str], palette: np.ndarray
) -> Image.Image:
    """Draw the classes of ``mask`` over ``image``, and which colours they have.

    Small images are enlarged. The legend lists the classes that occur, the largest first.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) class numbers; 255, ignored, stays as the image is.
        classes: Names.
        palette: (K, 3) RGB of each class.

    Raises:
        ValueError: If mask and image differ in size.
    """
    if image.shape[:2] != mask.shape:
        raise ValueError(f'mask {mask.shape} and image {image.shape[:2]}: expected one size')
    palette = np.asarray(palette, np.uint8)
    known = mask < len(palette)
    colours = palette[np.where(known, mask, 0)]
    mixed = image * (1 - _OPACITY) + colours * _OPACITY
    mixed = np.where(known[..., None], mixed, image).round().astype(np.uint8)
    mixed[outlines(mask)] = 255
    factor = max(1, -(-_LEAST // min(mask.shape)))
    size = mask.shape[1] * factor, mask.shape[0] * factor
    left = Image.fromarray(mixed).resize(size, Image.Resampling.NEAREST)
    counts = np.bincount(mask[known].ravel(), minlength=len(classes))
    order = [int(i) for i in counts.argsort(kind='stable')[::-1] if counts[i]]
    rows = [(classes[i], tuple(map(int, palette[i])), counts[i] / mask.size) for i in order]
    legend = _legend(rows, size[1])
    picture = Image.new('RGB', (size[0] + legend.width, max(size[1], legend.height)), 'white')
    picture.paste(left, (0, 0))
    picture.paste(legend, (size[0], 0))
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
