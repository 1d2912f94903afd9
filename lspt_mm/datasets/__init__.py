"""Data sets and transforms that mmseg and mmpretrain do not have."""

from importlib.util import find_spec

from lspt_mm.datasets.benchmarks import FGVC, VTAB1K
from lspt_mm.datasets.image_folder import ImageFolder
from lspt_mm.datasets.image_list import ListedImages
from lspt_mm.datasets.transforms import LoadImage

if find_spec('mmseg') is not None:  # classification needs none of it
    from lspt_mm.datasets.camvid import CamVidDataset
    from lspt_mm.datasets.mask_folder import MaskFolder
    from lspt_mm.datasets.seg_transforms import LoadSegLabels

__all__ = [
    'CamVidDataset', 'FGVC', 'ImageFolder', 'ListedImages', 'LoadImage', 'LoadSegLabels',
    'MaskFolder', 'VTAB1K',
]
