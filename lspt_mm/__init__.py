"""Visual prompt tuning of frozen Vision Transformers for the OpenMMLab stack."""

from lspt_mm import _compat
from lspt_mm.errors import InputError
from lspt_mm.utils.lazy import lazy_exports
from lspt_mm.version import __version__

# Before anything imports torchvision (timm, mmpretrain and mmseg all do) or mmengine.
_compat.apply()

__getattr__, _when_used = lazy_exports(
    __name__,
    apis=('Run', 'features', 'load'),
    deployment=(),
    # It imports mmseg, which the others do without.
    **{'apis.training': ('train_classification', 'train_segmentation')},
)
__all__ = ['InputError', '__version__', *_when_used]
