"""Visual prompt tuning of frozen Vision Transformers for the OpenMMLab stack."""

from lspt_mm import _compat
from lspt_mm.version import __version__

# Before anything imports torchvision (timm, mmpretrain and mmseg all do).
_compat.apply()

__all__ = ['__version__']
