"""Paths of this package's configs, tools and projects, in a wheel and in a checkout."""

import difflib
from pathlib import Path

from lspt_mm.errors import InputError

_PACKAGE = Path(__file__).resolve().parents[1]


def config_dir() -> Path:
    """Folder of the configs that belong to this copy of the package.

    A wheel has them in ``lspt_mm/.mim/configs``, as is usual in OpenMMLab. A checkout, and so an
    editable installation, has them in its root.

    Raises:
        InputError: If the package was copied without its configs.
    """
    in_wheel = _PACKAGE / '.mim' / 'configs'
    if in_wheel.is_dir():
        return in_wheel
    in_checkout = _PACKAGE.parent / 'configs'
    # Next to an installed package, `configs` may be another package's: setup.py marks a checkout.
    if in_checkout.is_dir() and (_PACKAGE.parent / 'setup.py').is_file():
        return in_checkout
    raise InputError(
        f'no configs next to {_PACKAGE}: expected {in_wheel} or {in_checkout}; '
        'install the package with pip, or run from a checkout'
    )


def tools_dir() -> Path:
    """Folder of the tools, next to the configs in a wheel and in a checkout."""
    return config_dir().parent / 'tools'


def projects_dir() -> Path:
    """Folder of the projects, next to the configs in a wheel and in a checkout."""
    return config_dir().parent / 'projects'


def config_names() -> list[str]:
    """Names that ``config_path`` accepts: paths below ``config_dir()`` without ``.py``, sorted."""
    root = config_dir()
    return sorted(p.relative_to(root).with_suffix('').as_posix() for p in root.rglob('*.py'))


def config_path(name: str) -> Path:
    """Path of the config ``name``, such as ``lspt_upernet_ade20k`` or ``camvid/x``.

        cfg = mmengine.Config.fromfile(config_path('lspt_upernet_ade20k'))

    Args:
        name: Path below the folder of configs, with or without ``.py``.

    Raises:
        InputError: If there is no such config; the message lists the most similar names.
    """
    wanted = name.removesuffix('.py')
    if wanted in config_names():
        return config_dir() / f'{wanted}.py'
    close = ', '.join(similar_names(wanted))
    hint = f'close matches: {close}' if close else f'nothing like it in {config_dir()}'
    raise InputError(f'no config {name!r}: {hint}')


def similar_names(wanted: str) -> list[str]:
    """At most five names: the same name in other folders first, then similar spellings."""
    names = config_names()
    stem = wanted.rsplit('/', 1)[-1]
    elsewhere = [n for n in names if n.rsplit('/', 1)[-1] == stem]
    spelt_alike = difflib.get_close_matches(wanted, names, n=5)
    return list(dict.fromkeys(elsewhere + spelt_alike))[:5]
