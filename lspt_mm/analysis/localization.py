"""Localization of attention maps: their entropy, and their overlap with true class masks.

Shapes: Q queries (prompts times heads, or heads of the class token), h x w patches.
"""

import math
from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lspt_mm.probing.patches import class_shares
from lspt_mm.utils.images import IGNORE_INDEX


class Localization(NamedTuple):
    """Means over one image's queries in one block, for class token or prompts.

    ``on_patches``: share of the attention that goes to patches, 0 to 1 (the rest goes to class
    token and prompts). ``entropy``: of the attention on patches, in units of log(h w): 1 is even,
    0 a single patch. ``overlap``: intersection over union with the class mask that fits best, 0 to
    1. For each class in the image, the query's strongest patches are taken, as many as the class
    has. ``elsewhere``: the same for the query's maps of another image, a chance level of equally
    smooth maps. Both are NaN without ground truth.
    """

    on_patches: float
    entropy: float
    overlap: float
    elsewhere: float


def localization(
    weights: Tensor, classes: Optional[Tensor] = None, others: Optional[Tensor] = None
) -> Localization:
    """Score the attention maps of one image.

    Args:
        weights: (..., h, w), a map for each query.
        classes: (h, w), the class of each patch, :data:`IGNORE_INDEX` for none; see
            :func:`classes_of_patches`.
        others: (..., h', w'), the same queries' maps on another image; resized to h, w.
    """
    maps = weights.double().flatten(0, -3).flatten(-2)  # (Q, N)
    total = maps.sum(-1)
    shares = maps / total[:, None].clamp_min(1e-30)
    entropy = -torch.xlogy(shares, shares).sum(-1)
    overlap = elsewhere = math.nan
    if classes is not None and bool((classes != IGNORE_INDEX).any()):
        overlap = _best_overlap(maps, classes.flatten())
        if others is not None:
            others = others.double().flatten(0, -3)[None]
            others = F.interpolate(others, weights.shape[-2:], mode='bilinear')[0].flatten(-2)
            elsewhere = _best_overlap(others, classes.flatten())
    patches = maps.size(-1)
    return Localization(
        on_patches=float(total.mean()),
        entropy=float(entropy.mean()) / math.log(patches) if patches > 1 else math.nan,
        overlap=overlap,
        elsewhere=elsewhere,
    )


def _best_overlap(maps: Tensor, classes: Tensor) -> float:
    """Mean over maps (Q, N) of the best class's intersection over union."""
    judged = classes != IGNORE_INDEX
    maps, classes = maps[:, judged], classes[judged]
    order = maps.argsort(-1, descending=True)
    best = maps.new_zeros(maps.size(0))
    for number in classes.unique():
        mask = classes == number
        size = int(mask.sum())
        hits = mask[order[:, :size]].sum(-1)
        best = torch.maximum(best, hits / (2 * size - hits))
    return float(best.mean())


def classes_of_patches(
    label: Tensor, size: Tuple[int, int], grid: Tuple[int, int], patch: int
) -> Tensor:
    """The class that most pixels of each patch have.

    Args:
        label: Class numbers (H, W), :data:`IGNORE_INDEX` for none.
        size: Height and width of the ViT's input image; the label is resized to it.
        grid: Rows and columns of patches. Of those that reach beyond the image, only the part
            inside counts.
        patch: Height and width of a patch, in pixels.

    Returns:
        Tensor: (h, w), class numbers; :data:`IGNORE_INDEX` where most pixels have none.
    """
    label = F.interpolate(label[None, None].float(), size, mode='nearest')[0, 0].long()
    votes = class_shares(label.cpu().numpy(), grid, (patch, patch), int(label.max()) + 1)
    return torch.from_numpy(votes.argmax(1).reshape(grid)).to(label.device)
