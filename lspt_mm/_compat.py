"""Repairs of the surrounding stack, each active only where exactly its fault is found."""

import importlib
import importlib.util
import sys

_MISSING_NMS = 'operator torchvision::nms does not exist'
# The library object must outlive the import: the schemas vanish with it.
_torchvision_schemas = None


def apply() -> None:
    """Run every repair. Does nothing at all on a whole installation."""
    repair_torchvision()


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
    _torchvision_schemas.define(
        'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
    )
    _torchvision_schemas.define(
        'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
    )
    importlib.import_module('torchvision')
