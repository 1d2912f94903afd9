"""Images with masks, named in a list that ``tools/dataset_converters/own_masks.py`` wrote."""

import os
from pathlib import Path
from typing import Dict, List

import numpy as np
from mmseg.datasets import BaseSegDataset
from PIL import Image

from lspt_mm.errors import InputError
from lspt_mm.registry import DATASETS
from lspt_mm.utils.atomic_io import read_json
from lspt_mm.utils.images import IGNORE_INDEX, IMAGE_SUFFIXES
from lspt_mm.utils.split_files import IMAGES, MASKS, is_inside


@DATASETS.register_module()
class MaskFolder(BaseSegDataset):
    """Segmentation data in ``{"image": "mask", ...}`` lists.

    Paths of images are relative to ``images/``, those of masks to ``masks/``, below ``data_root``.
    Masks hold the numbers of the classes from 0, and 255 for ignored pixels.

    Args:
        ann_file (str): The list, relative to ``data_root``: ``train.json``, ``val.json`` or
            ``test.json``.
        **kwargs: As mmseg's ``BaseSegDataset`` (data_root, metainfo, pipeline, ...).

    Raises:
        InputError: When the data are read: if the list is missing or malformed, or names a file
            outside the data's folder or one that does not exist.
    """

    def __init__(self, ann_file: str = 'train.json', **kwargs):
        kwargs.setdefault('data_prefix', {'img_path': IMAGES, 'seg_map_path': MASKS})
        kwargs.setdefault('img_suffix', IMAGE_SUFFIXES)
        super().__init__(ann_file=ann_file, **kwargs)

    def load_data_list(self) -> List[dict]:
        """One dict for each image, in the order of the list."""
        pairs = read_pairs(Path(self.ann_file))
        images, masks = self.data_prefix['img_path'], self.data_prefix['seg_map_path']
        found = [
            {
                'img_path': os.path.join(images, image),
                'seg_map_path': os.path.join(masks, mask),
                'label_map': self.label_map,
                'reduce_zero_label': self.reduce_zero_label,
                'seg_fields': [],
            }
            for image, mask in pairs.items()
        ]
        paths = [entry[key] for entry in found for key in ('img_path', 'seg_map_path')]
        missing = [path for path in paths if not os.path.isfile(path)]
        if missing:
            raise InputError(
                f'{self.ann_file}: {len(missing)} of its files do not exist, such as {missing[0]}. '
                'If the images have moved, prepare the data again (python -m lspt_mm own_masks)'
            )
        return found

    def get_cat_ids(self, idx: int) -> List[int]:
        """Classes in a mask; MMEngine's ``ClassBalancedDataset`` asks for them."""
        with Image.open(self.get_data_info(idx)['seg_map_path']) as mask:
            found = np.unique(np.asarray(mask))
        return [int(value) for value in found if value != IGNORE_INDEX]


def read_pairs(path: Path) -> Dict[str, str]:
    """Image to mask of a list; InputError for any other file."""
    pairs = read_json(path)
    if not isinstance(pairs, dict) or not all(isinstance(mask, str) for mask in pairs.values()):
        raise InputError(f'{path}: expected {{"image": "mask", ...}}')
    if not pairs:
        raise InputError(f'{path}: names no image')
    for name in (*pairs, *pairs.values()):
        if not is_inside(name):
            raise InputError(f'{path}: {name} lies outside the data')
    return pairs
