"""VTAB-1K: nineteen tasks of 1,000 training images each (arXiv 1910.04867)."""

from lspt_mm.config.benchmarks import VTAB_SPLITS as SPLITS
from lspt_mm.config.benchmarks import VTAB_TASKS as TASKS
from lspt_mm.config.benchmarks import VTABTask as Task  # noqa: F401  (its public name)
from lspt_mm.datasets.image_list import ListedImages
from lspt_mm.registry import DATASETS
from lspt_mm.utils.checks import check_choice


@DATASETS.register_module()
class VTAB1K(ListedImages):
    """A task of VTAB-1K in the community's layout, which needs no TensorFlow.

    Below ``data_root``, for each task a folder with ``images/`` and the lists ``train800.txt``,
    ``val200.txt``, ``train800val200.txt`` and ``test.txt`` of lines ``images/... label``.

    Args:
        task (str): Name of a folder, one of :data:`~lspt_mm.config.benchmarks.VTAB_TASKS`.
        split (str): One of :data:`~lspt_mm.config.benchmarks.VTAB_SPLITS`.
            Hyper-parameters are chosen on train800 and val200; the final model is trained on both
            and tested once.
        official_counts (bool): Whether the split must have VTAB's number of images.
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
        data_root: str = 'data/vtab-1k',
        official_counts: bool = True,
        **kwargs,
    ):
        check_choice('task', task, TASKS)
        check_choice('split', split, SPLITS)
        facts = TASKS[task]
        count = SPLITS[split] or facts.num_test
        super().__init__(
            ann_file=f'{task}/{split}.txt',
            data_root=data_root,
            data_prefix=task,
            num_classes=facts.num_classes,
            num_images=count if official_counts else None,
            **kwargs,
        )
