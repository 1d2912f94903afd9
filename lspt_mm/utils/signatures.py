"""Which arguments a class takes, for errors that name a mistyped one."""

import inspect
from typing import Any, Callable, Dict, Set


def constructor_arguments(cls: type) -> Set[str]:
    """Names of the arguments of ``cls``.

    Where a constructor hands ``**others`` on, those of the class it inherits from count too.
    """
    names: Set[str] = set()
    for owner in cls.__mro__:
        if owner is object or '__init__' not in vars(owner):
            continue
        names |= named_parameters(owner.__init__)
        if not takes_more(owner.__init__):
            break
    return names


def named_parameters(function: Callable) -> Set[str]:
    """Names of the parameters that can be given by name, ``self`` left out."""
    parameters = inspect.signature(function).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name for p in parameters if p.kind in named} - {'self'}


def takes_more(function: Callable) -> bool:
    """Whether there is a ``**kwargs``."""
    parameters = inspect.signature(function).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in parameters)


def constructor_defaults(cls: type) -> Dict[str, Any]:
    """Default values of the arguments of ``cls``, by the rule of :func:`constructor_arguments`."""
    defaults: Dict[str, Any] = {}
    for owner in cls.__mro__:
        if owner is object or '__init__' not in vars(owner):
            continue
        for p in inspect.signature(owner.__init__).parameters.values():
            if p.default is not p.empty:
                defaults.setdefault(p.name, p.default)
        if not takes_more(owner.__init__):
            break
    return defaults
