"""Loading label images, with every value checked."""

from pathlib import Path
from typing import Sequence

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from lspt_mm.errors import InputError
from lspt_mm.registry import TRANSFORMS
from lspt_mm.utils.images import IGNORE_INDEX


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile`` whose error for a broken file is an InputError naming it.

    For training pipelines: OpenMMLab's inferencers look for ``LoadImageFromFile`` by its name in
    the test pipeline, to put their own loader in its place.
    """

    def transform(self, results: dict) -> dict:
        """Load ``results['img_path']``."""
        try:
            return super().transform(results)
        except Exception as error:  # decoders raise what they like for broken files
            raise InputError(f'{results["img_path"]}: cannot be read as an image') from error


@TRANSFORMS.register_module()
class LoadSegLabels(LoadAnnotations):
    """mmseg's ``LoadAnnotations`` that refuses labels which cannot be right.

    mmseg's casts whatever it finds to 8 bits, and a value outside the classes ends the run in the
    loss without the file's name, or on a GPU with a device-side assertion.

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
        """Load and check the label; for bare images (inference) there is nothing to do."""
        return super().transform(results) if 'seg_map_path' in results else results

    def _load_seg_map(self, results: dict) -> None:
        path = results['seg_map_path']
        self._check_mode(path)
        try:
            super()._load_seg_map(results)
        except Exception as error:  # PIL raises what it likes, SyntaxError for a broken PNG
            raise InputError(f'{path}: cannot be read as a label image ({error})') from error
        label = results['gt_seg_map']
        if 'ori_shape' in results and label.shape != tuple(results['ori_shape'][:2]):
            raise InputError(
                f'{path}: the label is {_size(label.shape)}, its image {results["img_path"]} '
                f'{_size(results["ori_shape"])}; they must be of one size'
            )
        shift = int(bool(results['reduce_zero_label']))  # void counts as the file does
        for value in self.void:
            label[label == value - shift] = IGNORE_INDEX
        self._check_values(path, label, results['reduce_zero_label'])

    @staticmethod
    def _check_mode(path: str) -> None:
        if not Path(path).is_file():
            return  # another storage backend: the values are checked all the same
        try:
            with Image.open(path) as image:
                mode = image.mode
        except Exception as error:
            raise InputError(f'{path}: cannot be read as a label image ({error})') from error
        if mode not in ('L', 'P', '1'):
            raise InputError(
                f'{path}: a label image of mode {mode}; expected one channel of 8 bits whose '
                'values are the numbers of the classes'
            )

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
