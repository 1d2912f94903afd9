"""Packages that import their modules only when a name of these is used."""

import importlib
import sys
from typing import Any, Callable, Sequence, Tuple

from lspt_mm.utils.installed import require_when_imported


def lazy_exports(
    package: str, **modules: Sequence[str]
) -> Tuple[Callable[[str], Any], Tuple[str, ...]]:
    """``__getattr__`` and ``__all__`` of a package, whose modules may import the whole stack.

    ``dir()`` of the package has the names and the modules. Where a package of the stack is not
    installed, the error is that of :func:`~lspt_mm.utils.installed.require`.

    Args:
        package: ``__name__`` of the package.
        **modules: Name of a module of the package to the public names in it.
    """
    places = {name: module for module, names in modules.items() for name in names}

    def __getattr__(name: str):
        if name not in places and name not in modules:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        with require_when_imported():
            module = importlib.import_module(f'{package}.{places.get(name, name)}')
        return getattr(module, name) if name in places else module

    self = sys.modules[package]
    names = {*places, *(name for name in modules if '.' not in name)}
    self.__dir__ = lambda: sorted({*vars(self), *names})
    return __getattr__, tuple(places)
