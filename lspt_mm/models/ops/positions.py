"""Resizes position embeddings to another grid."""

from typing import Tuple

from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, cat
from torch.compiler import is_exporting
from torch.nn import functional as F


def position_embedding(
    pos_embed: Tensor, grid: Tuple[int, int], hw: Tuple[int, int], mode: str, num_extra: int
) -> Tensor:
    """mmpretrain's ``resize_pos_embed``, which can also be exported for images of any size.

    Args:
        pos_embed: (1, E+N, D), of ``num_extra`` leading tokens and a grid of patches.
        grid: Rows and columns of that grid.
        hw: Rows and columns of the image's patches.
        mode: Interpolation mode.
        num_extra: E; the embeddings of these tokens are unchanged.
    """
    if not is_exporting():
        return resize_pos_embed(pos_embed, grid, hw, mode=mode, num_extra_tokens=num_extra)
    # Sizes are not compared, as they are dynamic; a grid of the same size is unchanged.
    extra, patches = pos_embed.tensor_split((num_extra,), dim=1)
    patches = patches.transpose(1, 2).unflatten(2, grid)  # (1, D, h, w)
    patches = F.interpolate(patches, hw, mode=mode, align_corners=False)
    return cat((extra, patches.flatten(2).transpose(1, 2)), dim=1)
