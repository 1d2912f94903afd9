"""The rendered scenes as an mmseg data set."""

from mmseg.datasets import BaseSegDataset

from lspt_mm.registry import DATASETS

CLASSES = (
    'sky', 'mountain', 'water', 'grass', 'road', 'sand', 'building', 'brick wall', 'fence',
    'tree', 'bush', 'car', 'person', 'ball', 'sign', 'lamp post',
)  # fmt: skip

PALETTE = [
    [135, 206, 250], [140, 120, 160], [30, 90, 200], [120, 200, 80], [110, 110, 110],
    [240, 220, 150], [190, 140, 110], [160, 50, 40], [230, 150, 60], [20, 110, 40],
    [150, 160, 20], [0, 20, 110], [230, 30, 120], [255, 255, 60], [0, 220, 220], [90, 40, 170],
]  # fmt: skip


@DATASETS.register_module()
class SceneDataset(BaseSegDataset):
    """Scenes of ``projects/demo``, in ADE20K's layout and label convention.

    Label 0 is "other" and ignored; 1 is the first class.

    Args:
        split (str): Name of the sub-folders of ``images/`` and ``annotations/``.
        **kwargs: As mmseg's ``BaseSegDataset``.
    """

    METAINFO = {'classes': CLASSES, 'palette': PALETTE}

    def __init__(self, split: str = 'training', **kwargs):
        kwargs.setdefault(
            'data_prefix', {'img_path': f'images/{split}', 'seg_map_path': f'annotations/{split}'}
        )
        super().__init__(reduce_zero_label=True, **kwargs)
