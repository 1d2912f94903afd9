"""Checks of arguments at construction, and which arguments a class takes."""

import inspect
import math
from numbers import Integral, Real
from typing import Callable, Dict, Iterable, Optional, Set

from lspt_mm.errors import InputError

#: No number of tokens, channels or blocks is larger; beyond 64 bits PyTorch raises a TypeError.
LARGEST = 2**31 - 1
#: The largest finite number of float32; what is beyond is infinite in a parameter.
_MOST = (2 - 2**-23) * 2.0**127


def check_int(name: str, value, least: int, most: Optional[int] = None) -> None:
    """Raise ValueError unless ``value`` is an integer from ``least`` to ``most``."""
    ok = isinstance(value, Integral) and not isinstance(value, bool) and least <= value <= LARGEST
    if not ok or (most is not None and value > most):
        span = f'of at least {least}' if most is None else f'from {least} to {most}'
        raise ValueError(f'{name}={value!r}: expected an integer {span}')


def check_number(name: str, value, least: float = -math.inf) -> None:
    """Raise ValueError unless ``value`` is a finite number of at least ``least``."""
    ok = isinstance(value, Real) and not isinstance(value, bool)
    if not (ok and abs(value) <= _MOST):  # NaN compares as False
        raise ValueError(f'{name}={value!r}: expected a finite number (of float32)')
    if isinstance(value, Integral) and abs(value) >= 2**63:  # PyTorch takes no such int
        raise ValueError(f'{name}={value!r}: expected an integer below 2^63, or a float')
    if value < least:
        raise ValueError(f'{name}={value!r}: expected a number of at least {least}')


def check_share(name: str, value) -> None:
    """Raise ValueError unless ``value`` is a number from 0 to below 1."""
    ok = isinstance(value, Real) and not isinstance(value, bool)
    if not (ok and 0 <= value < 1):
        raise ValueError(f'{name}={value!r}: expected a number from 0 to below 1')


def check_size(name: str, value) -> None:
    """Raise ValueError unless ``value`` is an integer of at least 1, or a pair of them."""
    pair = value if isinstance(value, (list, tuple)) and len(value) == 2 else (value, value)
    for side in pair:
        if not isinstance(side, Integral) or isinstance(side, bool) or not 1 <= side <= LARGEST:
            raise ValueError(f'{name}={value!r}: expected an integer of at least 1 or a pair')


def check_choice(name: str, value, choices) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in list(choices):  # value may be a dict, which has no hash
        raise ValueError(f'{name}={value!r}: expected one of {", ".join(map(repr, choices))}')


def check_all(checks: Iterable[tuple]) -> None:
    """Raise one InputError with the messages of all checks that fail, a line each.

    Args:
        checks: Tuples of a function that raises ValueError, and its arguments.
    """
    problems = []
    for check, *arguments in checks:
        try:
            check(*arguments)
        except ValueError as error:
            problems.append(str(error))  # the same as another's, if one value is checked twice
    if problems:
        raise InputError('\n'.join(dict.fromkeys(problems)))


def check_bool(name: str, value) -> None:
    """Raise ValueError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f'{name}={value!r}: expected True or False')


def constructor_parameters(cls: type) -> Dict[str, inspect.Parameter]:
    """Parameters of ``cls`` by name; where it has ``**kwargs``, those of its base class too."""
    found: Dict[str, inspect.Parameter] = {}
    for owner in cls.__mro__:
        if owner is object or '__init__' not in vars(owner):
            continue
        parameters = inspect.signature(owner.__init__).parameters
        named = named_parameters(owner.__init__)
        found = {**{n: p for n, p in parameters.items() if n in named}, **found}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return found


def named_parameters(function: Callable) -> Set[str]:
    """Names of the parameters that can be given by name, without ``self``."""
    parameters = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name for p in parameters if p.kind in kinds} - {'self'}
