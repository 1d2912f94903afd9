"""The arguments that a ``transfer.py`` takes: the fields of a dataclass."""

import difflib
from dataclasses import fields
from typing import Any, Collection, Dict

from lspt_mm.config.arguments import config_arguments
from lspt_mm.errors import InputError


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
        InputError: For an unknown argument.
    """
    values = {**defaults, **config_arguments()}
    known = [field.name for field in fields(run) if field.name not in fixed]
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=2)
            hint = f'did you mean {" or ".join(close)}?' if close else f'known: {", ".join(known)}'
            raise InputError(f'configs/{folder}/transfer.py takes no argument {name!r}; {hint}')
    return values
