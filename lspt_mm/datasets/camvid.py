"""CamVid in its 11 classes."""

from pathlib import Path
from typing import Dict, List

from mmseg.datasets import BaseSegDataset

from lspt_mm.registry import DATASETS

SPLITS = ('training', 'training-fit', 'training-select', 'validation', 'test')


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid (Brostow et al. 2008) in the 11 classes of SegNet, at 480x360; 11 is void.

    Layout, as ADE20K's, below ``data_root``: ``images/{training,validation,test}/NAME.jpg`` and
    ``annotations/.../NAME.png``. A name starts with its drive (``0001TP``, ``0006R0``,
    ``0016E5``, ``Seq05VD``).

    Frames are from few drives, at 1 per second. Neighbours look alike, so a random part of the
    training frames would contain near-copies of the rest. To choose hyper-parameters there are
    ``training-fit`` and ``training-select``: the last tenth of each drive's training frames
    (rounded, at least one) is held out for selection.

    Args:
        split (str): One of 'training', 'training-fit', 'training-select', 'validation', 'test'.
        **kwargs: As mmseg's ``BaseSegDataset``.
    """

    METAINFO = {
        'classes': (
            'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign_symbol', 'fence', 'car',
            'pedestrian', 'bicyclist',
        ),
        'palette': [
            [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222],
            [128, 128, 0], [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0],
            [0, 128, 192],
        ],
    }

    def __init__(self, split: str = 'training', **kwargs):
        if split not in SPLITS:
            raise ValueError(f'split={split!r}: expected one of {", ".join(map(repr, SPLITS))}')
        self.split = split
        folder = split.split('-')[0]
        kwargs.setdefault(
            'data_prefix', {'img_path': f'images/{folder}', 'seg_map_path': f'annotations/{folder}'}
        )
        super().__init__(**kwargs)

    def load_data_list(self) -> List[dict]:
        """The frames of the split, sorted by name."""
        frames = super().load_data_list()
        if '-' not in self.split:
            return frames
        drives: Dict[str, List[dict]] = {}
        for frame in frames:
            drives.setdefault(Path(frame['img_path']).name.split('_')[0], []).append(frame)
        chosen = []
        for drive in drives.values():
            held_out = max(1, round(len(drive) / 10))
            fit = self.split == 'training-fit'
            chosen += drive[:-held_out] if fit else drive[-held_out:]
        return chosen
