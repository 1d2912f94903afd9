"""The data sets of FGVC and VTAB-1K: their names, numbers of classes and of images.

Parsers offer the names, so that this module imports nothing heavy.
"""

from typing import Dict, NamedTuple


class FGVCTask(NamedTuple):
    """A data set: its numbers of classes and of images in each split, and its title."""

    num_classes: int
    num_train: int
    num_val: int
    num_test: int
    title: str


#: Folder of a data set of FGVC to the data set.
FGVC_TASKS: Dict[str, FGVCTask] = {
    'cub': FGVCTask(200, 5394, 600, 5794, 'CUB-200-2011'),
    'nabirds': FGVCTask(555, 21536, 2393, 24633, 'NABirds'),
    'flowers': FGVCTask(102, 1020, 1020, 6149, 'Oxford Flowers-102'),
    'dogs': FGVCTask(120, 10800, 1200, 8580, 'Stanford Dogs'),
    'cars': FGVCTask(196, 7329, 815, 8041, 'Stanford Cars'),
}
#: The splits of each.
FGVC_SPLITS = ('train', 'val', 'test')


class VTABTask(NamedTuple):
    """A task: its group, number of classes, number of test images, and its title."""

    group: str
    num_classes: int
    num_test: int
    title: str


#: Folder of a task of VTAB-1K, in the community's layout, to the task; in VTAB's order.
VTAB_TASKS: Dict[str, VTABTask] = {
    'cifar': VTABTask('natural', 100, 10000, 'CIFAR-100'),
    'caltech101': VTABTask('natural', 102, 6084, 'Caltech101'),
    'dtd': VTABTask('natural', 47, 1880, 'DTD'),
    'oxford_flowers102': VTABTask('natural', 102, 6149, 'Flowers102'),
    'oxford_iiit_pet': VTABTask('natural', 37, 3669, 'Pets'),
    'svhn': VTABTask('natural', 10, 26032, 'SVHN'),
    'sun397': VTABTask('natural', 397, 21750, 'Sun397'),
    'patch_camelyon': VTABTask('specialized', 2, 32768, 'Patch Camelyon'),
    'eurosat': VTABTask('specialized', 10, 5400, 'EuroSAT'),
    'resisc45': VTABTask('specialized', 45, 6300, 'Resisc45'),
    'diabetic_retinopathy': VTABTask('specialized', 5, 42670, 'Retinopathy'),
    'clevr_count': VTABTask('structured', 8, 15000, 'Clevr/count'),
    'clevr_dist': VTABTask('structured', 6, 15000, 'Clevr/distance'),
    'dmlab': VTABTask('structured', 6, 22735, 'DMLab'),
    'kitti': VTABTask('structured', 4, 711, 'KITTI/distance'),
    'dsprites_loc': VTABTask('structured', 16, 73728, 'dSprites/location'),
    'dsprites_ori': VTABTask('structured', 16, 73728, 'dSprites/orientation'),
    'smallnorb_azi': VTABTask('structured', 18, 12150, 'SmallNORB/azimuth'),
    'smallnorb_ele': VTABTask('structured', 9, 12150, 'SmallNORB/elevation'),
}
#: Number of images of each split; the test's is the task's.
VTAB_SPLITS = {'train800': 800, 'val200': 200, 'train800val200': 1000, 'test': None}
