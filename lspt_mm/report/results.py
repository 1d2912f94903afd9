"""The results of a run in a report."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from lspt_mm.analysis.alignment import Alignment
from lspt_mm.analysis.burstiness import Burstiness
from lspt_mm.analysis.forgetting import Forgetting
from lspt_mm.analysis.localization import Localization
from lspt_mm.analysis.lstm_gates import StepGates
from lspt_mm.analysis.runs import FinishedRun
from lspt_mm.analysis.similarity import Persistence
from lspt_mm.tasks import Prediction


@dataclass
class Picture:
    """One image: ``pixels`` (H, W, 3) uint8 RGB; ``truth`` (None without one) and ``predicted``.

    ``index``: its position in the data set; folders of classes may repeat a file's ``name``.
    ``cls``, ``prompts``: for every block (H, h, w), attention of each head, of prompts averaged
    over them; None without.
    """

    name: str
    index: int
    pixels: np.ndarray
    truth: Optional[Prediction]
    predicted: Prediction
    cls: List[Optional[np.ndarray]]
    prompts: List[Optional[np.ndarray]]


def by_image(pictures: Sequence[List[Picture]]) -> List[List[Optional[Picture]]]:
    """The pictures of several runs, image by image; None where a run does not have it."""
    runs = [{(picture.index, picture.name): picture for picture in run} for run in pictures]
    images = dict.fromkeys(image for run in runs for image in run)
    return [[run.get(image) for run in runs] for image in images]


@dataclass
class RunResult:
    """All results of one run in a report; None or empty where they do not apply to a method.

    ``confusion``: the sum of the task's :meth:`~lspt_mm.tasks.Task.counts` over the images, None
    where no image has a truth. ``alignment``: by block; ``not_aligned``: why a tuned ViT has none.
    """

    run: FinishedRun
    classes: List[str]
    palette: List[Tuple[int, int, int]]
    parameters: Dict[str, List[int]]
    method: Optional[str]
    start_block: Optional[int]
    images: int
    confusion: Optional[np.ndarray]
    forgetting: Optional[Forgetting]
    alignment: Dict[int, Alignment]
    not_aligned: str
    persistence: Dict[str, Persistence]
    localization: Dict[str, Dict[int, Localization]]
    per_block_stats: Dict[str, Dict[int, float]]
    memory_gates: List[StepGates]
    burstiness: List[Burstiness]
    features: np.ndarray
    feature_classes: np.ndarray
    pictures: List[Picture] = field(default_factory=list)
    remarks: List[str] = field(default_factory=list)

    @property
    def score(self) -> Optional[float]:
        """The task's metric over the report's own images; None without their truth."""
        return None if self.confusion is None else self.run.task.score(self.confusion)

    @property
    def class_scores(self) -> List[float]:
        """The task's metric for each class; [] without classes or truth."""
        return [] if self.confusion is None else self.run.task.class_scores(self.confusion)


#: Fields that are not numbers of the report, or are large and can be computed again.
_LEFT_OUT = ('run', 'pictures', 'features', 'feature_classes', 'palette')


def numbers_of(result: RunResult) -> Dict[str, Any]:
    """The numbers of a run as values for JSON; NaN becomes None.

    Keys are those of :class:`RunResult`, ``score``, ``baseline`` and ``checkpoint``.
    """
    found = {f.name: _plain(getattr(result, f.name))
             for f in fields(result) if f.name not in _LEFT_OUT}
    run = {'checkpoint': str(result.run.checkpoint), 'baseline': result.run.baseline}
    return {**run, 'score': result.score, **found}


def _plain(value: Any) -> Any:
    if hasattr(value, 'tolist'):
        return _plain(value.tolist())
    if hasattr(value, '_asdict'):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
