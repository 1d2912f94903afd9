"""Load images of many formats."""

from mmcv.transforms import LoadImageFromFile

from lspt_mm.errors import InputError
from lspt_mm.registry import TRANSFORMS
from lspt_mm.utils.images import BACKEND


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """mmcv's ``LoadImageFromFile``, for more formats of images.

    Images are read as :func:`lspt_mm.utils.images.read_image` does; an InputError names a broken
    file. For training pipelines only: OpenMMLab's inferencers replace ``LoadImageFromFile`` in the
    test pipeline by its name.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault('backend_args', {'backend': BACKEND})
        super().__init__(**kwargs)

    def transform(self, results: dict) -> dict:
        """Load ``results['img_path']``."""
        try:
            return super().transform(results)
        except Exception as error:  # decoders raise any type for broken files
            raise InputError(f'{results["img_path"]}: cannot be read as an image') from error
