"""MMEngine's reader of image files, with this library's rules; registered when it is imported."""

import io

import cv2
from mmengine.fileio import LocalBackend, register_backend
from PIL import Image

from lspt_mm.utils.images import BACKEND, decode_image, needs_pillow


class ImageBackend(LocalBackend):
    """MMEngine's local file backend, with images as ``decode_image`` reads them.

    For ``backend_args=dict(backend='lspt_mm.images')`` of ``LoadImageFromFile``, a name that the
    inferencers of mmseg and mmpretrain require. Images that OpenCV reads correctly are unchanged.
    """

    def get(self, filepath) -> bytes:
        """The content of a file; of images that OpenCV reads otherwise, a bitmap."""
        content = super().get(filepath)
        try:
            with Image.open(io.BytesIO(content)) as image:
                plain = not needs_pillow(image)
        except Exception:  # the loader reports the problem
            return content
        if plain:
            return content
        return cv2.imencode('.bmp', decode_image(content)[..., ::-1])[1].tobytes()


register_backend(BACKEND, ImageBackend, force=True)
