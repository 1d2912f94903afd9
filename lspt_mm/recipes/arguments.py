"""The arguments that a ``transfer.py`` takes: the fields of a dataclass, and their checks."""

import os
from dataclasses import fields
from typing import Any, Collection, Dict, Iterable, Mapping

from lspt_mm.config.arguments import config_arguments
from lspt_mm.errors import InputError
from lspt_mm.utils.checks import check_all, check_choice, check_int, check_number
from lspt_mm.utils.text import did_you_mean


def taken_arguments(
    folder: str, run: type, defaults: Dict[str, Any], fixed: Collection[str] = ()
) -> Dict[str, Any]:
    """The arguments of the config being read, after ``defaults``.

    Args:
        folder: Of the config, below ``configs/``.
        run: The dataclass.
        defaults: Values that the config has for some of them.
        fixed: Fields that are not arguments.

    Raises:
        InputError: For unknown arguments, all of them.
    """
    values = {**defaults, **config_arguments()}
    known = [field.name for field in fields(run) if field.name not in fixed]
    problems = []
    for name in values:
        if name not in known:
            problems.append(
                f'configs/{folder}/transfer.py takes no argument {name!r}; '
                + did_you_mean(name, known)
            )
    if problems:
        raise InputError('\n'.join(problems))
    return {name: os.path.expanduser(value) if isinstance(value, str) else value
            for name, value in values.items()}


def given_values(run: Any) -> Dict[str, Any]:
    """Values of a dataclass's fields, without those that are None because they are derived."""
    values = {field.name: (getattr(run, field.name), field.default) for field in fields(run)}
    return {name: value for name, (value, usual) in values.items() if (value, usual) != (None,) * 2}


def check_values(
    values: Mapping[str, Any],
    choices: Mapping[str, Collection],
    least: Mapping[str, int],
    numbers: Collection[str],
    further: Iterable[tuple] = (),
) -> None:
    """Raise one InputError for all invalid values.

    Args:
        values: Values by name.
        choices: Names to the values that are allowed.
        least: Names of integers to the smallest that is allowed.
        numbers: Names of numbers that must not be negative.
        further: Checks as :func:`~lspt_mm.utils.checks.check_all` takes them.
    """
    check_all([
        *((check_choice, name, values[name], choices[name]) for name in choices if name in values),
        *((check_int, name, values[name], least[name]) for name in least if name in values),
        *((check_number, name, values[name], 0) for name in numbers if name in values),
        *further,
    ])
