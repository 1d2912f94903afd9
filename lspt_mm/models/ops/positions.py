"""Position embeddings on another grid."""

from typing import Tuple

from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, cat
from torch.compiler import is_exporting
from torch.nn import functional as F


def position_embedding(
    pos_embed: Tensor, grid: Tuple[int, int], hw: Tuple[int, int], mode: str, num_extra: int
) -> Tensor:
    """mmpretrain's ``resize_pos_embed``, also for images of any size while a model is exported.

    Args:
        pos_embed: (1, E+N, D) of ``num_extra`` leading tokens and a grid of patches.
        grid: Rows and columns of that grid.
        hw: Rows and columns of the image's patches.
        mode: Of interpolation.
        num_extra: E; their embeddings stay as they are.
    """
    if not is_exporting():
        return resize_pos_embed(pos_embed, grid, hw, mode=mode, num_extra_tokens=num_extra)
    # No comparison of sizes, which may be any; a grid of its own size comes out as it is.
    extra, patches = pos_embed.tensor_split((num_extra,), dim=1)
    patches = patches.transpose(1, 2).unflatten(2, grid)  # (1, D, h, w)
    patches = F.interpolate(patches, hw, mode=mode, align_corners=False)
    return cat((extra, patches.flatten(2).transpose(1, 2)), dim=1)
