"""The report's numbers without its pictures, for programs."""

import math
from dataclasses import fields
from typing import Any, Dict

from lspt_mm.analysis.report.measured import Measured

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
