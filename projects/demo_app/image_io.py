"""Read an uploaded file as an image, or report why it cannot be read.

Sizes are checked before anything is decoded, so that a small file of many pixels costs nothing.
"""

from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from lspt_mm.errors import InputError
from lspt_mm.utils.images import decode_image, describe_image

#: Formats that are read. Pillow knows more, but some start other programs (EPS) or are no picture.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM')
_READ = 'JPEG, PNG, WebP, GIF, BMP, TIFF and PPM'


class Limits(NamedTuple):
    """Limits of an upload: its pixels and sides, and the size it is reduced to.

    ``max_pixels``, ``max_side``, ``min_side`` and ``max_ratio`` (long side to short side) are of
    the file; larger images than ``work_side`` are reduced to that long side, as a mask has a score
    for each class and pixel.
    """

    max_pixels: int = 40_000_000
    max_side: int = 16_000
    min_side: int = 16
    max_ratio: float = 16.0
    work_side: int = 1024


class Upload(NamedTuple):
    """An image as models get it.

    ``image``: (H, W, 3) uint8 RGB, upright. ``size``: width and height of the file's image,
    upright. ``notes``: what was done to it, for the user.
    """

    image: np.ndarray
    size: Tuple[int, int]
    notes: List[str]


def check_limits(limits: Limits) -> None:
    """Raise InputError unless the limits can be kept."""
    if limits.max_pixels < limits.min_side**2:
        raise InputError(
            f'max_pixels={limits.max_pixels}: expected at least {limits.min_side**2}'
        )
    if limits.work_side < limits.min_side:
        raise InputError(
            f'work_side={limits.work_side}: expected at least {limits.min_side} pixels'
        )


def read_image(path, limits: Optional[Limits] = None) -> Upload:
    """Read a file of unknown origin as an RGB image of 8 bits.

    Its pixels are those of :func:`lspt_mm.utils.images.decode_image`, reduced to the limits.

    Args:
        path: The file.
        limits: Limits of the file; by default those of :class:`Limits`.

    Raises:
        InputError: With a message for the sender, if the file is empty, not an image of a known
            format, damaged or cut off, too large, too small or too narrow.
    """
    limits = limits or Limits()
    path = Path(path)
    if not path.is_file() or path.stat().st_size == 0:
        raise InputError(f'{path.name}: the file is empty')
    Image.init()  # Pillow knows of few formats before
    try:
        with Image.open(path, formats=FORMATS) as picture:
            _check_pixels(path.name, picture.size, limits)
            notes = _notes(picture)
            picture.load()  # all of it
            return _finished(path.read_bytes(), limits, notes)
    except (InputError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise InputError(
            f'{path.name}: not an image that can be read here, whatever its suffix. '
            f'{_READ} can be; save it as one of these'
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f'{path.name}: far too many pixels; at most {_count(limits.max_pixels)} are taken'
        ) from error
    except Exception as error:  # decoders raise any type for damaged files
        raise InputError(
            f'{path.name}: the file is damaged or was cut off on its way ({error}); send it again '
            'or save it again'
        ) from error


def _check_pixels(name: str, size: Tuple[int, int], limits: Limits) -> None:
    width, height = size
    what = f'{name}: {width:,} x {height:,} pixels'
    if width * height > limits.max_pixels:
        raise InputError(
            f'{what} are too many: at most {_count(limits.max_pixels)} are taken; send a smaller '
            'version'
        )
    if max(size) > limits.max_side:
        raise InputError(
            f'{what}: a side is longer than {limits.max_side:,}; send a smaller version'
        )
    if min(size) < limits.min_side:
        raise InputError(f'{what} are too few: each side needs at least {limits.min_side}')
    if max(size) > limits.max_ratio * min(size):
        raise InputError(
            f'{what}: one side is more than {limits.max_ratio:g} times the other; send a part of it'
        )


def _count(pixels: int) -> str:
    return f'{pixels / 1e6:,.1f} million pixels' if pixels >= 1e5 else f'{pixels} pixels'


def _notes(picture: Image.Image) -> List[str]:
    notes = []
    frames = getattr(picture, 'n_frames', 1)
    if frames > 1 and picture.format != 'MPO':  # a phone's JPEG with a preview in it
        notes.append(f'the first of {frames} frames')
    if describe_image(picture).bits > 8:
        notes.append('more than 8 bits a channel, reduced to 8')
    if picture.has_transparency_data:
        notes.append('transparent parts on white')
    return notes


def _finished(content: bytes, limits: Limits, notes: List[str]) -> Upload:
    image = decode_image(content)
    size = image.shape[1::-1]
    if max(size) > limits.work_side:
        scale = limits.work_side / max(size)
        small = tuple(max(1, round(side * scale)) for side in size)
        image = np.asarray(Image.fromarray(image).resize(small, Image.Resampling.BILINEAR))
        notes = [*notes, f'reduced to {small[0]} x {small[1]} pixels']
    return Upload(image, size, notes)
