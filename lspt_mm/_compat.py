"""Repairs of the surrounding stack, each active only where exactly its fault is found.

On the maintained OpenMMLab distributions only ``repair_torchvision`` may have something to do
(beside a CPU-only torch); ``register_configs`` and ``hide_import_noise`` are no repairs, but must
run as early as they.
"""

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
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
    """Run every repair, make configs known, and hide two messages of the stack's imports."""
    repair_torchvision()
    repair_mmcv_ops()
    repair_resume()
    register_configs()
    register_image_backend()
    hide_import_noise()


def repair_torchvision() -> None:
    """Make ``import torchvision`` work where its compiled operators do not load.

    PyPI's torchvision is built for CUDA; beside a CPU-only torch its operators are missing and
    the import itself fails, and with it timm, mmpretrain and mmseg, none of which needs those
    operators here. Declaring the two schemas that torchvision decorates at import is enough.
    Calling ``nms`` afterwards still fails, as it should.
    """
    global _torchvision_schemas
    if importlib.util.find_spec('torchvision') is None:
        return
    try:
        importlib.import_module('torchvision')
        return
    except RuntimeError as error:
        if _MISSING_NMS not in str(error):
            raise
    import torch

    for name in [n for n in sys.modules if n == 'torchvision' or n.startswith('torchvision.')]:
        del sys.modules[name]
    _torchvision_schemas = torch.library.Library('torchvision', 'DEF')
    _torchvision_schemas.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    _torchvision_schemas.define('qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    importlib.import_module('torchvision')


# --- mmcv-lite: no compiled operators


def repair_mmcv_ops() -> None:
    """Make ``from mmcv.ops import X`` work on the original ``mmcv-lite``.

    mmcv-lite ships the Python half of ``mmcv.ops`` without the compiled half ``mmcv._ext``, and
    the original mmseg imports from ``mmcv.ops`` unconditionally: ``import mmseg.models`` fails.
    A stand-in for ``mmcv._ext`` lets every class and function of ``mmcv.ops`` be imported; what
    is pure PyTorch among them works, what is compiled raises an InputError when it is called.

    The stand-in is looked for after everything else, so a real ``mmcv._ext`` always wins, and
    nothing of mmcv is imported here. onedl-mmcv is left alone: its mmseg guards the imports.
    """
    if _is_installed('mmcv-lite') and not any(isinstance(f, _ExtFinder) for f in sys.meta_path):
        sys.meta_path.append(_ExtFinder())


class _ExtFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the stand-in for ``mmcv._ext`` and nothing else."""

    def find_spec(self, fullname, path=None, target=None):
        """Return a spec for ``mmcv._ext`` only."""
        if fullname != 'mmcv._ext':
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec):
        """Return the stand-in."""
        return _MissingOperators(spec.name)

    def exec_module(self, module):
        """Nothing to execute."""


class _MissingOperators(types.ModuleType):
    """Has every operator; each says when called that it is not compiled."""

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):  # the import system's own questions
            raise AttributeError(name)
        # Reports on the environment call these two; they are no operators.
        if name in ('get_compiler_version', 'get_compiling_cuda_version'):
            return lambda: 'n/a'

        def missing(*args, **kwargs):
            raise InputError(
                f'mmcv.ops needs the compiled operator {name!r}, which mmcv-lite does not have: '
                'choose a head or loss that works without it, or install a full mmcv in place '
                'of mmcv-lite'
            )

        return missing


# --- original mmengine: torch.load refuses mmengine's own checkpoints


def repair_resume() -> None:
    """Let the original mmengine read its own checkpoints, and no more than those.

    mmengine up to 0.10.7 calls ``torch.load(file)``; since torch 2.6 this means
    ``weights_only=True``, which refuses the log histories and numpy values that mmengine itself
    writes beside the weights, so every resume fails. Naming those types to torch keeps the load
    safe: everything else in a file is still refused. onedl-mmengine deals with it on its own.
    """
    if not _is_installed('mmengine'):
        return
    import torch

    if torch.__version__ >= (2, 6):
        torch.serialization.add_safe_globals(mmengine_checkpoint_globals())


# --- configs of this package in other people's configs


def register_configs() -> None:
    """Let ``_base_ = 'lspt_mm::lspt_upernet_ade20k.py'`` find this package's configs.

    mmengine resolves such names for a fixed list of packages, for wheels only and in folders
    only, and stamps the base's every ``type`` with the package's own scope. Ours mix mmseg's,
    mmpretrain's and our types under a ``default_scope``, as one reads them in the file, so they
    are taken as if given by path. The list's entry serves ``mmengine.hub.get_config``.
    """
    if importlib.util.find_spec('mmengine') is None:
        return
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


def register_image_backend() -> None:
    """Let ``backend_args=dict(backend='lspt_mm.images')`` in a config be known."""
    if importlib.util.find_spec('mmengine') is not None:
        importlib.import_module('lspt_mm.utils.images')


# --- what the stack says when it is imported


def hide_import_noise() -> None:
    """Hide that optional parts are missing which nothing here uses.

    The maintained mmseg and mmpretrain print ``Could not import OneDL``, a debug message for which
    they name no logger; mmcv-lite warns that it has no ``MultiScaleDeformableAttention``.
    """
    warnings.filterwarnings(
        'ignore', 'Fail to import ``MultiScaleDeformableAttention``', UserWarning,
        r'mmcv\.cnn\.bricks\.transformer',
    )  # fmt: skip
    if importlib.util.find_spec('mmengine') is None:
        return
    import mmengine.logging

    of_mmengine = mmengine.logging.print_log
    if hasattr(of_mmengine, '__wrapped__'):
        return

    @functools.wraps(of_mmengine)
    def print_log(msg, logger=None, level=logging.INFO):
        if logger is not None or msg != 'Could not import OneDL':
            of_mmengine(msg, logger, level)

    mmengine.logging.print_log = print_log


def _is_installed(distribution: str) -> bool:
    """Whether a distribution of this very name is installed; imports nothing of it."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
