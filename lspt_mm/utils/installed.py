"""Report packages that are not installed, before anything heavy is imported."""

import importlib.util
from contextlib import contextmanager
from typing import Iterator

from lspt_mm.errors import InputError

#: Import names of optional packages to the extra of setup.py that installs them.
EXTRAS = {
    'mmengine': 'onedl', 'mmcv': 'onedl', 'mmpretrain': 'onedl', 'mmseg': 'onedl',
    'onnx': 'onnx', 'onnxruntime': 'onnx', 'onnxscript': 'onnx', 'gradio': 'app',
}
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
        extras = sorted({EXTRAS[name] for name in missing})
        which = ' (or openmmlab, never both: docs/install.md)' if 'onedl' in extras else ''
        raise InputError(
            f'{" and ".join(missing)}: needed here, but not installed: '
            f"pip install 'lspt_mm[{','.join(extras)}]'{which}"
        )


@contextmanager
def require_when_imported() -> Iterator[None]:
    """Turn the failed import of one of :data:`EXTRAS` into the InputError of :func:`require`."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or '').partition('.')[0]
        if package in EXTRAS:
            require(package)
        raise
