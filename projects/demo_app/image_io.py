"""Reading an uploaded file as an image, or saying why that cannot be done.

Sizes are looked at before anything is decoded, so that a small file of many pixels costs nothing.
"""

from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lspt_mm.errors import InputError

#: What is read. Pillow knows more, some of which starts other programs (EPS) or is no picture.
FORMATS = ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'PPM')
_READ = 'JPEG, PNG, WebP, GIF, BMP, TIFF and PPM'
#: Modes of more than 8 bits in one channel.
_DEEP = ('I', 'F', 'I;16', 'I;16L', 'I;16B', 'I;16N')


class Limits(NamedTuple):
    """What is taken: pixels and sides of an upload, and what it is reduced to.

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
    # Beyond twice this number Pillow itself refuses to open a file.
    most = 2 * (Image.MAX_IMAGE_PIXELS or limits.max_pixels)
    if not limits.min_side**2 <= limits.max_pixels <= most:
        raise InputError(
            f'max_pixels={limits.max_pixels}: expected {limits.min_side**2} to {most} '
            "(the latter is Pillow's own limit)"
        )
    if limits.work_side < limits.min_side:
        raise InputError(
            f'work_side={limits.work_side}: expected at least {limits.min_side} pixels'
        )


def read_image(path, limits: Optional[Limits] = None) -> Upload:
    """Read a file of unknown origin as an RGB image of 8 bits.

    Of an animation or several pages the first; turned as its EXIF data say; transparent parts on
    white; 16 bits scaled to 8, and numbers without a known range from their least to their largest.

    Args:
        path: The file.
        limits: What is taken; by default :class:`Limits`.

    Raises:
        InputError: With a message for whoever sent the file: it is empty, not an image of a known
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
            picture.load()
            return _finished(_upright(picture), limits, notes)
    except (InputError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise InputError(
            f'{path.name}: not an image that can be read here, whatever its name says. '
            f'{_READ} can be; save it as one of these'
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f'{path.name}: far too many pixels; at most {_count(limits.max_pixels)} are taken'
        ) from error
    except Exception as error:  # decoders raise what they like for damaged files
        raise InputError(
            f'{path.name}: the file is damaged or was cut off on its way ({error}); send it again '
            'or save it anew'
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
    frames = getattr(picture, 'n_frames', 1)
    if frames > 1 and picture.format != 'MPO':  # a phone's JPEG with a preview in it
        return [f'the first of {frames} frames']
    return []


def _upright(picture: Image.Image) -> Image.Image:
    """Turned as the EXIF data say; data that cannot be read say nothing."""
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:
        return picture


def _finished(picture: Image.Image, limits: Limits, notes: List[str]) -> Upload:
    size = picture.size
    if picture.mode in _DEEP:
        picture, note = _eight_bits(np.asarray(picture))
        notes = [*notes, note]
    elif picture.has_transparency_data:
        picture = picture.convert('RGBA')
        white = Image.new('RGBA', picture.size, 'white')
        picture = Image.alpha_composite(white, picture)
        notes = [*notes, 'transparent parts on white']
    picture = picture.convert('RGB')
    if max(size) > limits.work_side:
        scale = limits.work_side / max(size)
        small = tuple(max(1, round(side * scale)) for side in size)
        picture = picture.resize(small, Image.Resampling.BILINEAR)
        notes = [*notes, f'reduced to {small[0]} x {small[1]} pixels']
    return Upload(np.array(picture), size, notes)


def _eight_bits(values: np.ndarray) -> Tuple[Image.Image, str]:
    """One channel of more bits (H, W) to grey of 8 bits, and what was done."""
    values = values.astype(np.float64)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    whole = bool(known.size) and np.array_equal(known, np.round(known))
    if whole and low >= 0 and 255 < high <= 65535:
        low, high, note = 0.0, 65535.0, '16 bits reduced to 8'
    elif whole and low >= 0 and high <= 255:
        low, high, note = 0.0, 255.0, 'values of 0 to 255 taken as they are'
    else:
        note = f'values of {low:g} to {high:g} stretched to 0 to 255'
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1)
    return Image.fromarray(np.round(scaled * 255).astype(np.uint8)), note
