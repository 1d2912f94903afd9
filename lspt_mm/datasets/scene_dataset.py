"""The rendered scenes as an mmseg data set."""

from mmseg.datasets import BaseSegDataset

from lspt_mm.datasets.scenes import CLASSES, PALETTE
from lspt_mm.registry import DATASETS


@DATASETS.register_module()
class SceneDataset(BaseSegDataset):
    """Scenes of :mod:`lspt_mm.datasets.scenes`, in ADE20K's layout and label convention.

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
