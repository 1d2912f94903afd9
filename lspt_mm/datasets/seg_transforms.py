"""Load label images and check all their values; crop around rare classes."""

from pathlib import Path
from typing import Sequence, Tuple

import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmseg.datasets.transforms import LoadAnnotations, RandomCrop
from PIL import Image

from lspt_mm.errors import InputError
from lspt_mm.registry import TRANSFORMS
from lspt_mm.utils.images import IGNORE_INDEX


@TRANSFORMS.register_module()
class LoadSegLabels(LoadAnnotations):
    """mmseg's ``LoadAnnotations`` that rejects wrong labels.

    mmseg's casts any file to 8 bits; a value outside the classes then ends the run in the loss,
    without the file's name, or on a GPU with a device-side assertion.

    Args:
        num_classes (int): Values 0 .. num_classes - 1 (after ``reduce_zero_label``) are classes,
            255 is ignored.
        void (sequence of int): Further values in the file that mean "ignore".
        **kwargs: As mmseg's.

    Raises:
        InputError: Naming the file, for a file that cannot be read, is not of one 8-bit channel,
            differs in size from its image, or holds a value outside the classes.
    """

    def __init__(self, num_classes: int, void: Sequence[int] = (), **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.void = tuple(void)

    def transform(self, results: dict) -> dict:
        """Load and check the label, if there is one (not in inference)."""
        return super().transform(results) if 'seg_map_path' in results else results

    def _load_seg_map(self, results: dict) -> None:
        path, mode = results['seg_map_path'], 'L'
        try:
            if Path(path).is_file():  # not of another storage backend
                with Image.open(path) as image:
                    mode = image.mode
            super()._load_seg_map(results)
        except Exception as error:  # PIL raises many types, SyntaxError for a broken PNG
            raise InputError(f'{path}: cannot be read as a label image ({error})') from error
        if mode not in ('L', 'P', '1'):
            raise InputError(
                f'{path}: a label image of mode {mode}; expected one channel of 8 bits whose '
                'values are the numbers of the classes'
            )
        label = results['gt_seg_map']
        if 'ori_shape' in results and label.shape != tuple(results['ori_shape'][:2]):
            raise InputError(
                f'{path}: the label is {_size(label.shape)}, its image {results["img_path"]} '
                f'{_size(results["ori_shape"])}; they must be of one size'
            )
        shift = int(bool(results['reduce_zero_label']))  # void are values as in the file
        for value in self.void:
            label[label == value - shift] = IGNORE_INDEX
        self._check_values(path, label, results['reduce_zero_label'])

    def _check_values(self, path: str, label: np.ndarray, reduced: bool) -> None:
        counts = np.bincount(label.ravel(), minlength=256)
        bad = np.flatnonzero(counts[self.num_classes : IGNORE_INDEX]) + self.num_classes
        if len(bad):
            shift = int(bool(reduced))
            values = ', '.join(str(v + shift) for v in bad[:8])
            also = f' {", ".join(map(str, self.void))} or' if self.void else ''
            also += ' 0 or' if reduced else ''
            raise InputError(
                f'{path}: label value {values} ({counts[bad].sum()} pixels) is none of the '
                f'{self.num_classes} classes; expected {shift} to {self.num_classes - 1 + shift}, '
                f'or{also} 255 for pixels to ignore'
            )


def _size(shape) -> str:
    return 'x'.join(map(str, shape[1::-1])) + ' (width x height)'


@TRANSFORMS.register_module()
class RareClassCrop(RandomCrop):
    """mmseg's ``RandomCrop`` that draws a share of the crops around pixels of rare classes.

    Such a crop is drawn in three steps: one of the image's classes, with a probability inversely
    proportional to its pixels in the training data; a pixel of it; a crop that holds the pixel.

    Args:
        pixels: (K,), number of pixels of each class in the training data.
        share: Share of crops that are drawn this way, 0 to 1.
        **kwargs: As mmseg's.
    """

    def __init__(self, pixels: Sequence[int], share: float = 0.5, **kwargs):
        super().__init__(**kwargs)
        self.pixels = np.maximum(pixels, 1)
        self.share = share

    @cache_randomness
    def crop_bbox(self, results: dict) -> Tuple[int, int, int, int]:
        """Top, bottom, left and right of a crop."""
        labels = results['gt_seg_map']
        classes = np.unique(labels)
        classes = classes[classes < len(self.pixels)]
        if not len(classes) or np.random.rand() >= self.share:
            return super().crop_bbox(results)
        odds = 1 / self.pixels[classes]
        chosen = np.random.choice(classes, p=odds / odds.sum())
        place = np.argwhere(labels == chosen)
        place = place[np.random.randint(len(place))]
        found = []
        for at, side, length in zip(place, self.crop_size, labels.shape, strict=True):
            start = np.clip(at - np.random.randint(side), 0, max(0, length - side))
            found += [int(start), int(start) + side]
        return tuple(found)
