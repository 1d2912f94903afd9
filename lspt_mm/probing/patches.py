"""Sample patches of images, with the shares of classes in each."""

import math
from typing import Iterator, List, Tuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.tasks import Task
from lspt_mm.utils.images import IGNORE_INDEX

#: Maximum number of patches; fewer with many channels and classes, so that a fit takes a minute
#: or two.
MOST, _MOST_NUMBERS = 20_000, 10**9
#: Maximum number of images, evenly spaced over the data set.
_MOST_IMAGES = 2000


def sample_sizes(images: int, numbers: int) -> Tuple[List[int], int]:
    """Choose which images are read, and how many patches are taken from each.

    Args:
        images: Number of images in the data set.
        numbers: Channels times classes.
    """
    chosen = np.linspace(0, images - 1, min(images, _MOST_IMAGES)).astype(int).tolist()
    return chosen, math.ceil(min(MOST, _MOST_NUMBERS // numbers) / len(chosen))


def patch_rows(
    loaded: Iterator[dict], model: nn.Module, task: Task, classes: int, batch_size: int, each: int
) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Features (n, D) and shares of classes (n, K) of n patches of each image.

    Each image gives ``each`` patches, drawn from windows of the size that the ViT is built for
    (``img_size``); a smaller image is padded. Patches without a class are left out.
    """
    random, vit = np.random.default_rng(0), model.backbone
    for item in loaded:
        windows, truths = _windows(model, item, task, each, random)
        maps = [vit(part, prompter=False) for part in windows.split(batch_size)]
        x = torch.cat([torch.cat(part, dim=1).flatten(2).mT.flatten(0, 1) for part in maps])
        grid = maps[0][0].shape[2:]
        shares = np.concatenate(
            [class_shares(truth, grid, vit.patch_size, classes) for truth in truths]
        )
        taken = random.permutation(np.flatnonzero(shares.any(1)))[:each]
        yield x.float().cpu().numpy()[taken], shares[taken]


def _windows(model, item, task, each, random) -> Tuple[Tensor, List[np.ndarray]]:
    """Windows of an image (n, 3, S, S), enough for ``each`` patches twice, and labels (S, S)."""
    (image,) = model.data_preprocessor(dict(inputs=[item['inputs']]), False)['inputs']
    truth = torch.from_numpy(task.truth(item['data_samples'])).float()
    truth = F.interpolate(truth[None, None], image.shape[1:], mode='nearest-exact')[0, 0]
    size = model.backbone.img_size
    low, right = (max(0, a - b) for a, b in zip(size, image.shape[1:], strict=True))
    image = F.pad(image, (0, right, 0, low))
    truth = F.pad(truth, (0, right, 0, low), value=IGNORE_INDEX).numpy().astype(np.int64)
    corners = [(a, b) for a in _starts(image.shape[1], size[0])
               for b in _starts(image.shape[2], size[1])]
    wanted = math.ceil(2 * each / math.prod(model.backbone.patch_resolution))
    corners = [corners[i] for i in random.permutation(len(corners))[:wanted]]
    cuts = [(slice(a, a + size[0]), slice(b, b + size[1])) for a, b in corners]
    return torch.stack([image[:, a, b] for a, b in cuts]), [truth[a, b] for a, b in cuts]


def _starts(length: int, window: int) -> List[int]:
    """As few windows as cover the length, evenly."""
    count = math.ceil(length / window)
    return [round(i * (length - window) / max(1, count - 1)) for i in range(count)]


def class_shares(
    truth: np.ndarray, grid: Tuple[int, int], patch: Tuple[int, int], num_classes: int
) -> np.ndarray:
    """The share of each class in each patch, (patches, K) float32.

    Pixels without a class are of none, so a patch's shares sum to 1 or less.

    Args:
        truth: Class numbers (H, W). Pixels outside the grid are left out; where the grid reaches
            beyond the image, no class is added.
        grid: Rows and columns of patches.
        patch: Height and width of a patch, in pixels.
        num_classes: K.
    """
    (rows, columns), (high, wide) = grid, patch
    truth = truth[: rows * high, : columns * wide]
    short = [(0, rows * high - truth.shape[0]), (0, columns * wide - truth.shape[1])]
    truth = np.pad(truth, short, constant_values=-1)
    parts = truth.reshape(rows, high, columns, wide).swapaxes(1, 2).reshape(rows * columns, -1)
    judged = (parts >= 0) & (parts < num_classes)
    number = np.arange(len(parts))[:, None] * num_classes + parts
    counts = np.bincount(number[judged], minlength=len(parts) * num_classes)
    return (counts.reshape(len(parts), num_classes) / parts.shape[1]).astype(np.float32)
