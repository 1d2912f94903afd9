"""Workarounds for faults of the installed libraries, each active only where its fault is found.

A library is repaired when it is first imported, by whoever imports it; ``import lspt_mm`` imports
none of them. On the maintained OpenMMLab distributions only torchvision's repair may be needed
(with a CPU-only torch). ``register_configs`` and ``hide_import_noise`` are not workarounds, but
must run as early.
"""

import functools
import importlib
import importlib.abc
import importlib.machinery
import logging
import sys
import types
import warnings
from typing import Callable

from lspt_mm.errors import InputError
from lspt_mm.utils.safe_load import mmengine_checkpoint_globals

_MISSING_NMS = 'operator torchvision::nms does not exist'
# The library object must outlive the import: the schemas vanish with it.
_torchvision_schemas = None


def apply() -> None:
    """Repair the libraries that are imported already, and the others when they are imported."""
    _hide_warning_of_mmcv()
    if not any(isinstance(finder, _RepairFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RepairFinder())
    if sys.modules.get('mmcv'):
        repair_mmcv_ops()
    if sys.modules.get('mmengine'):
        repair_mmengine()


# --- repairs upon import


class _RepairFinder(importlib.abc.MetaPathFinder):
    """Finds libraries by the other finders, and has their loader call the repair."""

    def find_spec(self, fullname, path=None, target=None):
        """Return the spec of a library that may need a repair, None for any other module."""
        if fullname not in _LOADERS:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _RepairLoader(spec.loader, _LOADERS[fullname])
        return spec


class _RepairLoader(importlib.abc.Loader):
    """Executes a library by ``execute(loader, module)``; in all else it is the library's loader."""

    def __init__(self, loader, execute: Callable):
        self._loader, self._execute = loader, execute

    def __getattr__(self, name: str):
        return getattr(self._loader, name)

    def create_module(self, spec):
        """Return the library's module."""
        return self._loader.create_module(spec)

    def exec_module(self, module):
        """Execute and repair the library, which keeps no trace of this loader."""
        module.__loader__ = module.__spec__.loader = self._loader
        self._execute(self._loader, module)


# --- torchvision


def load_torchvision(loader, module) -> None:
    """Make ``import torchvision`` work where its compiled operators do not load.

    PyPI's torchvision is built for CUDA. With a CPU-only torch its operators are missing and the
    import itself fails; so do those of timm, mmpretrain and mmseg, which do not need those
    operators here. Declaring the two schemas that torchvision decorates at import is enough.
    Calling ``nms`` afterwards still fails, as it should.
    """
    global _torchvision_schemas
    fresh = dict(vars(module))
    try:
        loader.exec_module(module)
        return
    except RuntimeError as error:
        if _MISSING_NMS not in str(error):
            raise
    import torch

    vars(module).clear()
    vars(module).update(fresh)
    for name in [name for name in sys.modules if name.startswith('torchvision.')]:
        del sys.modules[name]
    if _torchvision_schemas is None:
        _torchvision_schemas = torch.library.Library('torchvision', 'DEF')
        for name in ('nms', 'qnms'):
            _torchvision_schemas.define(
                f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
            )
    loader.exec_module(module)


# --- mmcv-lite: no compiled operators


def repair_mmcv_ops() -> None:
    """Make ``from mmcv.ops import X`` work on the original ``mmcv-lite``.

    mmcv-lite ships the Python half of ``mmcv.ops`` without the compiled half ``mmcv._ext``, and
    the original mmseg imports from ``mmcv.ops`` unconditionally: ``import mmseg.models`` fails.
    A stub of ``mmcv._ext`` makes every class and function of ``mmcv.ops`` importable. Pure PyTorch
    ones work; compiled ones raise an InputError when they are called.

    The stub is searched last, so a real ``mmcv._ext`` always wins, and nothing of mmcv is imported
    here. onedl-mmcv is left alone: its mmseg guards the imports.
    """
    if _is_installed('mmcv-lite') and not any(isinstance(f, _ExtFinder) for f in sys.meta_path):
        sys.meta_path.append(_ExtFinder())


class _ExtFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the stub of ``mmcv._ext`` and nothing else."""

    def find_spec(self, fullname, path=None, target=None):
        """Return a spec for ``mmcv._ext`` only."""
        if fullname != 'mmcv._ext':
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec):
        """Return the stub."""
        return _MissingOperators(spec.name)

    def exec_module(self, module):
        """Nothing to execute."""


class _MissingOperators(types.ModuleType):
    """Stub with every operator; each raises an InputError when it is called."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):  # looked up by the import system itself
            raise AttributeError(name)
        # Environment reports call these two, which are not operators.
        if name in ('get_compiler_version', 'get_compiling_cuda_version'):
            return lambda: 'n/a'

        def missing(*args, **kwargs):
            raise InputError(
                f'mmcv.ops needs the compiled operator {name!r}, which mmcv-lite does not have: '
                'choose a head or loss that works without it, or install a full mmcv in place '
                'of mmcv-lite'
            )

        return missing


def load_mmcv(loader, module) -> None:
    """Import mmcv, and repair its operators."""
    loader.exec_module(module)
    repair_mmcv_ops()


# --- mmengine


def load_mmengine(loader, module) -> None:
    """Import mmengine, and repair it before the packages that need it get its parts."""
    loader.exec_module(module)
    repair_mmengine()


def repair_mmengine() -> None:
    """Run all repairs of mmengine, and register this package's configs and image backend."""
    repair_resume()
    register_configs()
    importlib.import_module('lspt_mm.utils.image_backend')
    hide_import_noise()


# --- original mmengine: torch.load rejects mmengine's own checkpoints


def repair_resume() -> None:
    """Let the original mmengine read its own checkpoints, and no other Python objects.

    mmengine up to 0.10.7 calls ``torch.load(file)``; since torch 2.6 this means
    ``weights_only=True``, which rejects the log histories and numpy values that mmengine saves
    with the weights, so every resume fails. Registering those types as safe keeps the load safe:
    everything else in a file is still rejected. onedl-mmengine handles this itself.
    """
    if not _is_installed('mmengine'):
        return
    import torch

    torch.serialization.add_safe_globals(mmengine_checkpoint_globals())


# --- inheriting from this package's configs


def register_configs() -> None:
    """Let ``_base_ = 'lspt_mm::lspt_upernet_ade20k.py'`` find this package's configs.

    mmengine resolves such names only for a fixed list of packages, for wheels and in folders. It
    prefixes every ``type`` of the base with the package's scope. Our configs mix types of
    mmseg, mmpretrain and this package under a ``default_scope``, so they are read as if given by
    path. The entry in the list is for ``mmengine.hub.get_config``.
    """
    from mmengine.config import Config
    from mmengine.config.utils import MODULE2PACKAGE

    if 'lspt_mm' in MODULE2PACKAGE:
        return
    # `_base_ = 'mmseg::...'`: the maintained distributions have other names.
    for module in ('mmseg', 'mmpretrain'):
        if _is_installed(f'onedl-{MODULE2PACKAGE[module]}'):
            MODULE2PACKAGE[module] = f'onedl-{MODULE2PACKAGE[module]}'
    MODULE2PACKAGE['lspt_mm'] = 'lspt_mm'
    of_mmengine = Config._get_cfg_path

    def get_cfg_path(cfg_path, filename):
        package, _, name = cfg_path.partition('::')
        if package != 'lspt_mm' or not name:
            return of_mmengine(cfg_path, filename)
        from lspt_mm.config.paths import config_path

        return str(config_path(name)), None

    Config._get_cfg_path = staticmethod(get_cfg_path)


# --- messages printed while libraries are imported


def hide_import_noise() -> None:
    """Hide ``Could not import OneDL``, which the maintained mmseg and mmpretrain print.

    It is a debug message about an optional part that nothing here uses, sent without a logger.
    """
    import mmengine.logging

    of_mmengine = mmengine.logging.print_log
    if hasattr(of_mmengine, '__wrapped__'):
        return

    @functools.wraps(of_mmengine)
    def print_log(msg, logger=None, level=logging.INFO):
        if logger is not None or msg != 'Could not import OneDL':
            of_mmengine(msg, logger, level)

    mmengine.logging.print_log = print_log


def _hide_warning_of_mmcv() -> None:
    """Hide that mmcv-lite has no ``MultiScaleDeformableAttention``, which nothing here uses."""
    warnings.filterwarnings(
        'ignore', 'Fail to import ``MultiScaleDeformableAttention``', UserWarning,
        r'mmcv\.cnn\.bricks\.transformer',
    )


def _is_installed(distribution: str) -> bool:
    """Whether a distribution of exactly this name is installed, without importing it."""
    import importlib.metadata  # takes longer than all the rest of this file

    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


#: Libraries to what loads them.
_LOADERS = {
    'torchvision': load_torchvision, 'mmcv': load_mmcv, 'mmengine': load_mmengine
}
