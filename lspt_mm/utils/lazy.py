"""Packages that import their modules only when a name of these is used."""

import importlib
from typing import Any, Callable, Sequence, Tuple


def lazy_exports(
    package: str, **modules: Sequence[str]
) -> Tuple[Callable[[str], Any], Tuple[str, ...]]:
    """``__getattr__`` and ``__all__`` of a package, whose modules may import the whole stack.

    Args:
        package: ``__name__`` of the package.
        **modules: Name of a module of the package to the public names in it.
    """
    places = {name: module for module, names in modules.items() for name in names}

    def __getattr__(name: str):
        if name not in places:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        return getattr(importlib.import_module(f'{package}.{places[name]}'), name)

    return __getattr__, tuple(places)
