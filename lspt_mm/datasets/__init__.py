"""Data sets and transforms that mmseg and mmpretrain do not have."""

from lspt_mm.datasets.camvid import CamVidDataset
from lspt_mm.datasets.loading import LoadImage, LoadSegLabels
from lspt_mm.datasets.scene_dataset import SceneDataset

__all__ = ['CamVidDataset', 'LoadImage', 'LoadSegLabels', 'SceneDataset']
