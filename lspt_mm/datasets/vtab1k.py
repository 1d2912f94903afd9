"""VTAB-1K: nineteen tasks of 1,000 training images each (arXiv 1910.04867)."""

from typing import Dict, NamedTuple

from lspt_mm.datasets.image_list import ListedImages
from lspt_mm.registry import DATASETS
from lspt_mm.utils.checks import check_choice


class Task(NamedTuple):
    """A task: its group, number of classes, number of test images, and its title."""

    group: str
    num_classes: int
    num_test: int
    title: str


#: Name of the folder in the community's layout to the task; in VTAB's order.
TASKS: Dict[str, Task] = {
    'cifar': Task('natural', 100, 10000, 'CIFAR-100'),
    'caltech101': Task('natural', 102, 6084, 'Caltech101'),
    'dtd': Task('natural', 47, 1880, 'DTD'),
    'oxford_flowers102': Task('natural', 102, 6149, 'Flowers102'),
    'oxford_iiit_pet': Task('natural', 37, 3669, 'Pets'),
    'svhn': Task('natural', 10, 26032, 'SVHN'),
    'sun397': Task('natural', 397, 21750, 'Sun397'),
    'patch_camelyon': Task('specialized', 2, 32768, 'Patch Camelyon'),
    'eurosat': Task('specialized', 10, 5400, 'EuroSAT'),
    'resisc45': Task('specialized', 45, 6300, 'Resisc45'),
    'diabetic_retinopathy': Task('specialized', 5, 42670, 'Retinopathy'),
    'clevr_count': Task('structured', 8, 15000, 'Clevr/count'),
    'clevr_dist': Task('structured', 6, 15000, 'Clevr/distance'),
    'dmlab': Task('structured', 6, 22735, 'DMLab'),
    'kitti': Task('structured', 4, 711, 'KITTI/distance'),
    'dsprites_loc': Task('structured', 16, 73728, 'dSprites/location'),
    'dsprites_ori': Task('structured', 16, 73728, 'dSprites/orientation'),
    'smallnorb_azi': Task('structured', 18, 12150, 'SmallNORB/azimuth'),
    'smallnorb_ele': Task('structured', 9, 12150, 'SmallNORB/elevation'),
}
#: Number of images of each split; the test's is the task's.
SPLITS = {'train800': 800, 'val200': 200, 'train800val200': 1000, 'test': None}


@DATASETS.register_module()
class VTAB1K(ListedImages):
    """A task of VTAB-1K in the community's layout, which needs no TensorFlow.

    Below ``data_root``, for each task a folder with ``images/`` and the lists ``train800.txt``,
    ``val200.txt``, ``train800val200.txt`` and ``test.txt`` of lines ``images/... label``.

    Args:
        task (str): Name of a folder, one of :data:`vtab1k.TASKS`.
        split (str): One of :data:`vtab1k.SPLITS`. Hyper-parameters are chosen on train800 and
            val200; the final model is trained on both and tested once.
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
