"""What a served model says of an image."""

from typing import List, NamedTuple, Optional, Tuple

import numpy as np


class ClassShare(NamedTuple):
    """A class in a mask: its number, name, colour (RGB) and share of the pixels, 0 to 1."""

    number: int
    name: str
    colour: Tuple[int, int, int]
    share: float


class BlockMaps(NamedTuple):
    """Attention of a block's class token and prompts on the grid of patches, by head.

    ``cls``: (heads, h, w) float32, or None without a class token. ``prompts``: the same, the mean
    over the prompts, or None where the block has none.
    """

    number: int
    cls: Optional[np.ndarray]
    prompts: Optional[np.ndarray]


class Attention(NamedTuple):
    """Attention block by block, and what the model saw.

    ``seen``: (H, W, 3) uint8 RGB, the image behind the test pipeline, resized and cropped. The
    grid's cell (i, j) is of its pixels ``cell*i .. cell*(i+1)-1``, ``cell*j .. cell*(j+1)-1``.
    """

    seen: np.ndarray
    cell: Tuple[float, float]
    blocks: List[BlockMaps]


class Look(NamedTuple):
    """One model's result for one image.

    A segmentor fills ``labels`` ((H, W) class numbers at the image's size), ``mask`` (RGB, the
    mask in the palette) and ``shares`` (largest first); a classifier ``top``, names and
    probabilities of the likeliest classes. ``seconds``: of prediction and of attention.
    """

    model: str
    labels: Optional[np.ndarray]
    mask: Optional[np.ndarray]
    shares: Optional[List[ClassShare]]
    top: Optional[List[Tuple[str, float]]]
    attention: Attention
    seconds: Tuple[float, float]
