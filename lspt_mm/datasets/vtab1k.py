"""VTAB-1K: nineteen tasks of 1,000 training images each (arXiv 1910.04867)."""

from lspt_mm.config.benchmarks import VTAB_SPLITS as SPLITS
from lspt_mm.config.benchmarks import VTAB_TASKS as TASKS
from lspt_mm.config.benchmarks import VTABTask as Task
from lspt_mm.datasets.image_list import BenchmarkImages
from lspt_mm.registry import DATASETS


@DATASETS.register_module()
class VTAB1K(BenchmarkImages):
    """A task of VTAB-1K in the community's layout, which needs no TensorFlow.

    Below ``data_root``, for each task a folder with ``images/`` and the lists ``train800.txt``,
    ``val200.txt``, ``train800val200.txt`` and ``test.txt`` of lines ``images/... label``. Arguments
    are those of :class:`~lspt_mm.datasets.image_list.BenchmarkImages`. Tasks:
    :data:`~lspt_mm.config.benchmarks.VTAB_TASKS`. Hyper-parameters are chosen on train800 and
    val200; the final model is trained on both and tested once.
    """

    tasks, splits, root, suffix = TASKS, SPLITS, 'data/vtab-1k', '.txt'

    @staticmethod
    def count(facts: Task, split: str) -> int:  # noqa: D102
        return SPLITS[split] or facts.num_test
