"""Features of patches, sampled from all images."""

import math
from typing import Dict, List, Tuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.probing.features import (
    Features,
    build_dataset,
    cached,
    frozen,
    items,
    settings_of,
)
from lspt_mm.tasks import Task
from lspt_mm.utils.images import IGNORE_INDEX

#: How many patches are taken at most; fewer of many channels for many classes, so that a fit
#: takes a minute or two.
MOST, _MOST_NUMBERS = 20_000, 10**9
#: And of so many images, evenly spaced over the data set.
_MOST_IMAGES = 2000


def patch_features(
    model: nn.Module, dataset: dict, task: Task, batch_size: int = 8, workers: int = 0,
    skip_bad: int = 0,
) -> Features:  # fmt: skip
    """Patches of a ViT without prompts: the maps of all ``out_indices``, joined.

    Each image gives equally many patches, drawn from windows of the size that the ViT is built
    for (``img_size``); a smaller image is padded. The arrays come from the cache.

    Args:
        model: A segmentor with a ``PromptedViT``, on the device to be used; it stays as it is.
        dataset: Config of a data set, whose pipeline draws no random numbers.
        task: The model's task.
        batch_size: How many windows at once.
        workers: Processes that load images.
        skip_bad: How many unreadable images are left out, each with a line in the log.

    Raises:
        InputError: If an image or a mask cannot be read.
    """
    data = build_dataset(dataset, task)
    vit, classes = model.backbone, task.head(model).num_classes
    width = vit.embed_dims * len(vit.out_indices)
    most = min(MOST, _MOST_NUMBERS // (width * classes))
    chosen = np.linspace(0, len(data) - 1, min(len(data), _MOST_IMAGES)).astype(int).tolist()
    each = math.ceil(most / len(chosen))

    def compute() -> Dict[str, np.ndarray]:
        random, found = np.random.default_rng(0), []
        for item in items(data, workers, skip_bad, chosen):
            windows, truths = _windows(model, item, task, each, random)
            maps = [vit(part, prompter=False) for part in windows.split(batch_size)]
            grid = maps[0][0].shape[2:]
            x = torch.cat([torch.cat(part, dim=1).flatten(2).mT.flatten(0, 1) for part in maps])
            shares = np.concatenate([class_shares(truth, grid, classes) for truth in truths])
            taken = random.permutation(np.flatnonzero(shares.any(1)))[:each]
            found.append((x.float().cpu().numpy()[taken], shares[taken]))
        return dict(zip(('x', 'shares'), map(np.concatenate, zip(*found, strict=True)),
                        strict=True))  # fmt: skip

    settings = ['patches', *settings_of(model, dataset), classes, most]
    with frozen(model):
        arrays = cached(settings, (data.get_data_info(i) for i in chosen), compute)
    return Features(**arrays)


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
               for b in _starts(image.shape[2], size[1])]  # fmt: skip
    wanted = math.ceil(2 * each / math.prod(model.backbone.patch_resolution))
    corners = [corners[i] for i in random.permutation(len(corners))[:wanted]]
    cuts = [(slice(a, a + size[0]), slice(b, b + size[1])) for a, b in corners]
    return torch.stack([image[:, a, b] for a, b in cuts]), [truth[a, b] for a, b in cuts]


def _starts(length: int, window: int) -> List[int]:
    """As few windows as cover the length, evenly."""
    count = math.ceil(length / window)
    return [round(i * (length - window) / max(1, count - 1)) for i in range(count)]


def class_shares(truth: np.ndarray, grid: Tuple[int, int], num_classes: int) -> np.ndarray:
    """Class numbers (S, S) to the share of each class in each patch, (patches, K) float32.

    Pixels without a class are of none: a patch's shares sum to 1 or less.
    """
    rows, columns = grid
    parts = truth.reshape(rows, truth.shape[0] // rows, columns, -1).swapaxes(1, 2)
    parts = parts.reshape(rows * columns, -1)
    judged = (parts >= 0) & (parts < num_classes)
    number = np.arange(len(parts))[:, None] * num_classes + parts
    counts = np.bincount(number[judged], minlength=len(parts) * num_classes)
    return (counts.reshape(len(parts), num_classes) / parts.shape[1]).astype(np.float32)
