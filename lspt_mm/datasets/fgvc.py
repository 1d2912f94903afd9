"""FGVC: the five fine-grained data sets of visual prompt tuning (VPT, arXiv 2203.12119).

The official training images are divided into train and val, a tenth being val; the official test
images are the test. Flowers has an official val.
"""

from lspt_mm.config.benchmarks import FGVC_SPLITS as SPLITS
from lspt_mm.config.benchmarks import FGVC_TASKS as TASKS
from lspt_mm.config.benchmarks import FGVCTask as Task  # noqa: F401  (its public name)
from lspt_mm.datasets.image_list import ListedImages
from lspt_mm.registry import DATASETS
from lspt_mm.utils.checks import check_choice


@DATASETS.register_module()
class FGVC(ListedImages):
    """One of the five data sets, as ``tools/dataset_converters/prepare.py`` writes it.

    Below ``data_root``, for each a folder with ``train.json``, ``val.json`` and ``test.json`` of
    ``{path: label}``, labels from 0 and paths relative to that folder.

    Args:
        task (str): Name of a folder, one of :data:`~lspt_mm.config.benchmarks.FGVC_TASKS`.
        split (str): One of :data:`~lspt_mm.config.benchmarks.FGVC_SPLITS`.
            Hyper-parameters are chosen on val.
        official_counts (bool): Whether the split must have the number of images of
            :data:`~lspt_mm.config.benchmarks.FGVC_TASKS`.
        **kwargs: As :class:`ListedImages` (pipeline, data_root, ...).

    Raises:
        ValueError: For another task or split.
        InputError: As :class:`ListedImages`.
    """

    ANY_NUMBER = 'official_counts=False (official=False after the name of a transfer.py)'

    def __init__(
        self,
        task: str,
        split: str,
        data_root: str = 'data/fgvc',
        official_counts: bool = True,
        **kwargs,
    ):
        check_choice('task', task, TASKS)
        check_choice('split', split, SPLITS)
        facts = TASKS[task]
        count = getattr(facts, f'num_{split}')
        super().__init__(
            ann_file=f'{task}/{split}.json',
            data_root=data_root,
            data_prefix=task,
            num_classes=facts.num_classes,
            num_images=count if official_counts else None,
            **kwargs,
        )
