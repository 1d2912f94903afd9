"""FGVC: the five fine-grained data sets of visual prompt tuning (VPT, arXiv 2203.12119).

The official training images are divided into train and val, a tenth being val; the official test
images are the test. Flowers has an official val.
"""

from lspt_mm.config.benchmarks import FGVC_SPLITS as SPLITS
from lspt_mm.config.benchmarks import FGVC_TASKS as TASKS
from lspt_mm.config.benchmarks import FGVCTask as Task
from lspt_mm.datasets.image_list import BenchmarkImages
from lspt_mm.registry import DATASETS


@DATASETS.register_module()
class FGVC(BenchmarkImages):
    """One of the five data sets, as ``tools/dataset_converters/prepare.py`` writes it.

    Below ``data_root``, for each a folder with ``train.json``, ``val.json`` and ``test.json`` of
    ``{path: label}``, labels from 0 and paths relative to that folder. Arguments are those of
    :class:`~lspt_mm.datasets.image_list.BenchmarkImages`. Tasks and numbers of images:
    :data:`~lspt_mm.config.benchmarks.FGVC_TASKS`. Hyper-parameters are chosen on val.
    """

    tasks, splits, root, suffix = TASKS, SPLITS, 'data/fgvc', '.json'

    @staticmethod
    def count(facts: Task, split: str) -> int:  # noqa: D102
        return getattr(facts, f'num_{split}')
