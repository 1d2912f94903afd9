"""Visual prompt tuning of frozen Vision Transformers for the OpenMMLab stack."""

from lspt_mm import _compat
from lspt_mm.version import __version__

# Before anything imports torchvision (timm, mmpretrain and mmseg all do) or mmengine.
_compat.apply()

__all__ = ['__version__', 'features', 'load', 'train_classification', 'train_segmentation']


def __getattr__(name: str):
    # They import the stack, which a tool's --help does without.
    if name.startswith('train_') and name in __all__:  # and mmseg, which the others do without
        from lspt_mm.apis import training

        return getattr(training, name)
    if name in __all__:
        from lspt_mm import apis

        return getattr(apis, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
