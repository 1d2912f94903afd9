"""Attention over images, as arrays (H, W, 3) uint8 RGB."""

from typing import Optional, Tuple

import matplotlib
import numpy as np
from PIL import Image

from projects.demo_app.results import Attention, BlockMaps


def map_of(block: BlockMaps, asker: str, head: Optional[int] = None) -> Optional[np.ndarray]:
    """Attention (h, w) of ``asker``, 'cls' or 'prompts', in one head (from 0) or their mean."""
    maps = getattr(block, asker)
    if maps is None:
        return None
    return maps.mean(0) if head is None else maps[head]


def attention_over(
    attention: Attention, grid: np.ndarray, long_side: int = 640, opacity: float = 0.8
) -> np.ndarray:
    """Attention (h, w) over the image that the model saw, at about ``long_side`` pixels.

    The image is grey below; the brightest patch of the map is the colour map's upper end.
    """
    seen = attention.seen
    scale = long_side / max(seen.shape[:2])
    height, width = (max(1, round(side * scale)) for side in seen.shape[:2])
    below = Image.fromarray(seen).convert('L').resize((width, height), Image.Resampling.BILINEAR)
    grey = np.asarray(below, np.float32)[..., None].repeat(3, -1)
    heat = _at_pixels(grid, attention.cell, (height, width), scale)
    share = heat / max(float(grid.max()), 1e-12)
    colours = matplotlib.colormaps['inferno'](np.clip(share, 0, 1))[..., :3] * 255
    return np.round((1 - opacity) * grey + opacity * colours).astype(np.uint8)


def _at_pixels(
    grid: np.ndarray, cell: Tuple[float, float], size: Tuple[int, int], scale: float
) -> np.ndarray:
    """A map on cells of the seen image, at each pixel of a picture ``scale`` times as large.

    Linear between the cells' centres. The grid may end before the image does (pixels that fill no
    patch) or after it (padding).
    """
    out = grid.astype(np.float64)
    for axis in (0, 1):
        centres = (np.arange(grid.shape[axis]) + 0.5) * cell[axis] * scale
        pixels = np.arange(size[axis]) + 0.5
        out = np.apply_along_axis(
            lambda line, c=centres, p=pixels: np.interp(p, c, line), axis, out
        )
    return out
