"""Report packages that are not installed, before anything heavy is imported."""

import importlib.util

from lspt_mm.errors import InputError

#: Import names of optional packages to the extra of setup.py that installs them.
EXTRAS = {
    'mmengine': 'onedl', 'mmcv': 'onedl', 'mmpretrain': 'onedl', 'mmseg': 'onedl',
    'onnx': 'onnx', 'onnxruntime': 'onnx', 'onnxscript': 'onnx', 'gradio': 'app',
}  # fmt: skip
#: What each task needs.
CLASSIFICATION = ('mmengine', 'mmcv', 'mmpretrain')
SEGMENTATION = (*CLASSIFICATION, 'mmseg')


def require(*packages: str) -> None:
    """Raise InputError with the pip command if one of ``packages`` is not installed.

    Args:
        *packages: Import names, keys of :data:`EXTRAS`.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(missing_message(*missing))


def missing_message(*missing: str) -> str:
    """The message for packages that are not installed."""
    extras = sorted({EXTRAS[name] for name in missing})
    which = ' (or openmmlab, never both: docs/install.md)' if 'onedl' in extras else ''
    return (
        f'{" and ".join(missing)} needed, but not installed: '
        f"pip install 'lspt_mm[{','.join(extras)}]'{which}"
    )
