"""Read the curves of a run from this library's log or from MMEngine's."""

import json
import math
from collections import defaultdict
from numbers import Real
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Tuple

from lspt_mm.engine.hooks.jsonl_logger_hook import LOG, read_log
from lspt_mm.errors import InputError

#: Pairs of iteration and value, by iteration.
Curve = List[Tuple[int, float]]

#: Keys that are no curves: position of a line, and times and memory of the machine.
_NO_CURVES = {'mode', 'iter', 'step', 'epoch', 'time', 'data_time', 'memory'}
#: Keys that only lines of training have, never those of validation, in either log.
_OF_TRAINING = {'lr', 'base_lr', 'loss'}


def curves_of_log(path: Path) -> Dict[str, Curve]:
    """Read the curves of a log, by key.

    Args:
        path: A work dir with a ``log.jsonl``, that file, or a log of MMEngine's: ``scalars.json``
            or ``TIME.json``, one JSON object a line. Where a run counts epochs, MMEngine's
            validations have no iteration; that of the line before is used.

    Raises:
        InputError: For a path without a log.
    """
    path = Path(path)
    if path.is_dir() and not (path / LOG).is_file():
        raise InputError(
            f'{path}: there is no {LOG}; name a work dir of tools/train.py, or a scalars.json'
        )
    if path.is_dir() or path.name == LOG:
        lines = read_log(path if path.is_dir() else path.parent)
    else:
        lines = _of_mmengine(path)
    curves = curves_of_lines(lines)
    if not curves:
        raise InputError(f'{path}: no line of a log in it')
    return curves


def curves_of_lines(lines: Iterable[dict]) -> Dict[str, Curve]:
    """Curves by key, of lines of a log.jsonl; values that are not finite are left out."""
    curves: Dict[str, Dict[int, float]] = defaultdict(dict)
    for line in lines:
        for key, value in line.items():
            if key not in _NO_CURVES and _is_finite(value):
                curves[key][line['iter']] = float(value)
    return {key: sorted(curve.items()) for key, curve in curves.items()}


def default_keys(known: Iterable[str]) -> List[str]:
    """The loss and all validation metrics; no other losses, rates or scores of a batch."""
    results = [
        key for key in known
        if not any(word in key for word in ('loss', 'lr', 'momentum', 'acc_seg'))
    ]
    return [key for key in ('loss',) if key in known] + results


def _of_mmengine(path: Path) -> Iterator[dict]:
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{path}: not a log that can be read: {error}') from error
    last = 0
    for line in text.splitlines():
        try:
            values = json.loads(line)
        except ValueError:  # torn by an interruption
            continue
        if not isinstance(values, dict):
            continue
        if _OF_TRAINING & set(values):
            last = values.get('iter', values.get('step', last))
        yield {**values, 'iter': last}


def _is_finite(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
