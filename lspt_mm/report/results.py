"""What a report holds of a run."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from lspt_mm.analysis.attention_similarity import Persistence
from lspt_mm.analysis.burstiness import Burstiness
from lspt_mm.analysis.forgetting import Forgetting
from lspt_mm.analysis.localization import Localization
from lspt_mm.analysis.lstm_gates import StepGates
from lspt_mm.analysis.runs import FinishedRun
from lspt_mm.analysis.scores import class_iou


@dataclass
class Picture:
    """One image: ``pixels`` (H, W, 3) uint8 RGB; ``truth``, ``predicted`` (H, W) or class numbers.

    ``scores``: of a classifier, a probability for each class. ``cls``, ``prompts``: for every
    block (H, h, w), attention of each head, of prompts averaged over them; None without.
    """

    name: str
    pixels: np.ndarray
    truth: Optional[np.ndarray]
    predicted: np.ndarray
    scores: Optional[np.ndarray]
    cls: List[Optional[np.ndarray]]
    prompts: List[Optional[np.ndarray]]


@dataclass
class Measured:
    """All that a report says of one run; None or empty where a method has no such thing."""

    run: FinishedRun
    classes: List[str]
    palette: List[Tuple[int, int, int]]
    parameters: Dict[str, List[int]]
    method: Optional[str]
    start_block: Optional[int]
    images: int
    confusion: np.ndarray
    forgetting: Optional[Forgetting]
    persistence: Dict[str, Persistence]
    localization: Dict[str, Dict[int, Localization]]
    over_depth: Dict[str, Dict[int, float]]
    memory_gates: List[StepGates]
    burstiness: List[Burstiness]
    features: np.ndarray
    feature_classes: np.ndarray
    pictures: List[Picture] = field(default_factory=list)
    remarks: List[str] = field(default_factory=list)

    @property
    def score(self) -> Optional[float]:
        """mIoU or top-1 over the report's own images, in per cent; None without their truth."""
        if not self.confusion.sum():
            return None
        if self.run.segments:
            values = [v for v in class_iou(self.confusion) if not math.isnan(v)]
            return sum(values) / len(values)
        return float(100 * self.confusion.trace() / self.confusion.sum())


#: What is not a number of the report, or is large and can be made again.
_LEFT_OUT = ('run', 'pictures', 'features', 'feature_classes', 'palette')


def numbers_of(measured: Measured) -> Dict[str, Any]:
    """What was measured of a run, as JSON may hold it; NaN becomes None.

    Keys are those of :class:`Measured`, ``score`` and ``checkpoint``.
    """
    found = {f.name: _plain(getattr(measured, f.name))
             for f in fields(measured) if f.name not in _LEFT_OUT}  # fmt: skip
    return {'checkpoint': str(measured.run.checkpoint), 'score': measured.score, **found}


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
