"""Data sets and transforms that mmseg and mmpretrain do not have."""

from lspt_mm.datasets.camvid import CamVidDataset
from lspt_mm.datasets.fgvc import FGVC
from lspt_mm.datasets.image_folder import ImageFolder
from lspt_mm.datasets.image_list import ListedImages
from lspt_mm.datasets.mask_folder import MaskFolder
from lspt_mm.datasets.scene_dataset import SceneDataset
from lspt_mm.datasets.transforms import LoadImage, LoadSegLabels
from lspt_mm.datasets.vtab1k import VTAB1K

__all__ = [
    'CamVidDataset', 'FGVC', 'ImageFolder', 'ListedImages', 'LoadImage', 'LoadSegLabels',
    'MaskFolder', 'SceneDataset', 'VTAB1K',
]  # fmt: skip
