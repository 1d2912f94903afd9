"""Results of a served model for an image."""

from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from lspt_mm.tasks import Description


class BlockMaps(NamedTuple):
    """Attention of a block's class token and prompts on the grid of patches, by head.

    ``cls``: (heads, h, w) float32, or None without a class token. ``prompts``: the same, the mean
    over the prompts, or None where the block has none.
    """

    number: int
    cls: Optional[np.ndarray]
    prompts: Optional[np.ndarray]


class Attention(NamedTuple):
    """Attention block by block, and the image that the model saw.

    ``seen``: (H, W, 3) uint8 RGB, the image after the test pipeline, resized and cropped. The
    grid's cell (i, j) is of its pixels ``cell*i .. cell*(i+1)-1``, ``cell*j .. cell*(j+1)-1``.
    """

    seen: np.ndarray
    cell: Tuple[float, float]
    blocks: List[BlockMaps]


class ImageResult(NamedTuple):
    """One model's result for one image.

    ``labels``: class numbers, (H, W) at the image's size or (1,). ``description``: the mask in
    colours and the classes in it, or the likeliest classes. ``seconds``: of prediction and of
    attention.
    """

    model: str
    labels: np.ndarray
    description: Description
    attention: Attention
    seconds: Tuple[float, float]
