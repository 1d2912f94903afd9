"""Benchmarks of visual prompt tuning: FGVC's data sets and VTAB-1K's tasks."""

from lspt_mm.config.benchmarks import (
    FGVC_SPLITS,
    FGVC_TASKS,
    VTAB_SPLITS,
    VTAB_TASKS,
    FGVCTask,
    VTABTask,
)
from lspt_mm.datasets.image_list import BenchmarkImages
from lspt_mm.registry import DATASETS


@DATASETS.register_module()
class FGVC(BenchmarkImages):
    """One of the five fine-grained data sets of VPT (arXiv 2203.12119).

    Below ``data_root``, for each a folder with ``train.json``, ``val.json`` and ``test.json`` of
    ``{path: label}``, labels from 0 and paths relative to that folder, as
    ``tools/dataset_converters/prepare.py`` writes them. Arguments are those of
    :class:`~lspt_mm.datasets.image_list.BenchmarkImages`. Tasks and numbers of images:
    :data:`~lspt_mm.config.benchmarks.FGVC_TASKS`.

    The official training images are divided into train and val, a tenth being val; the official
    test images are the test. Flowers has an official val. Hyper-parameters are chosen on val.
    """

    tasks, splits, root, suffix = FGVC_TASKS, FGVC_SPLITS, 'data/fgvc', '.json'

    @staticmethod
    def count(facts: FGVCTask, split: str) -> int:  # noqa: D102
        return getattr(facts, f'num_{split}')


@DATASETS.register_module()
class VTAB1K(BenchmarkImages):
    """One of 19 tasks of 1,000 training images (arXiv 1910.04867), in the community's layout.

    Below ``data_root``, for each task a folder with ``images/`` and the lists ``train800.txt``,
    ``val200.txt``, ``train800val200.txt`` and ``test.txt`` of lines ``images/... label``: no
    TensorFlow is needed. Arguments are those of
    :class:`~lspt_mm.datasets.image_list.BenchmarkImages`. Tasks:
    :data:`~lspt_mm.config.benchmarks.VTAB_TASKS`. Hyper-parameters are chosen on train800 and
    val200; the final model is trained on both and tested once.
    """

    tasks, splits, root, suffix = VTAB_TASKS, VTAB_SPLITS, 'data/vtab-1k', '.txt'

    @staticmethod
    def count(facts: VTABTask, split: str) -> int:  # noqa: D102
        return VTAB_SPLITS[split] or facts.num_test
