"""Read masks without loss; reject files that cannot be read exactly."""

from pathlib import Path
from typing import Dict, NamedTuple, Optional

import numpy as np
from PIL import Image, ImageOps

from lspt_mm.errors import InputError
from lspt_mm.utils.images import EXIF_TURNS, check_image, describe_image

#: Lossy formats and compressions of a TIFF. WebP may be lossless, but checking it is expensive.
_LOSSY = {'JPEG', 'MPO', 'JPEG2000', 'AVIF', 'HEIF', 'WEBP', 'jpeg', 'tiff_jpeg', 'webp'}
_SAMPLE_FORMAT, _SIGNED = 339, 2


class RawMask(NamedTuple):
    """A mask as stored in its file.

    Attributes:
        numbers (ndarray or None): (H, W) integers: of one channel, of three that are equal, or
            indices of a palette. None where there are colours.
        rgb (ndarray or None): (H, W) of 0xRRGGBB, where the file has three channels.
        palette (ndarray or None): (256,) of 0xRRGGBB, the colours of the numbers.
        lossy (bool): Whether the format is lossy (such as JPEG); the numbers are then thresholded
            at the middle to 0 and 255.
    """

    numbers: Optional[np.ndarray]
    rgb: Optional[np.ndarray]
    palette: Optional[np.ndarray]
    lossy: bool

    def colours(self) -> np.ndarray:
        """(H, W) of 0xRRGGBB, of any mask of 8 bits."""
        if self.rgb is not None:
            return self.rgb
        if self.palette is not None:
            return self.palette[self.numbers]
        return self.numbers.astype(np.int32) * 0x010101


def read_mask(path: Path) -> RawMask:
    """Read a mask, rotated by its own orientation tag.

    Raises:
        InputError: For a file that cannot be read, has several pages, transparent pixels,
            non-integer values, values that Pillow scales, colours of more than 8 bits, or a
            colour space besides RGB.
    """
    try:
        with Image.open(path) as image:
            problem = _problem_of(image)
            if problem:
                raise InputError(f'{path}: {problem}')
            lossy = bool(_LOSSY & {image.format, image.info.get('compression')})
            return _values_of(ImageOps.exif_transpose(image), path, lossy)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f'{path}: does not exist') from error
    except Exception as error:  # decoders raise any type for broken files
        raise InputError(f'{path}: cannot be read as a mask ({error})') from error


def _problem_of(image: Image.Image) -> str:
    """Why an image is not read exactly; '' if it is."""
    # Before describe_image, which decodes a PNG to its end for its EXIF data.
    stored = {tile[3] if isinstance(tile[3], str) else str(tile[3][0]) for tile in image.tile}
    tags, facts = getattr(image, 'tag_v2', {}), describe_image(image)
    if facts.pages > 1:
        return f'has {facts.pages} pages, expected one'
    if facts.rescaled or (facts.bits > 8 and len(image.getbands()) > 1):
        found = f'{facts.bits} bits a channel ({image.mode})'
    elif any(form.startswith('L;') for form in stored):  # less than 8 bits, or inverted
        found = f'grey values stored as {", ".join(stored)}'
    elif image.mode == 'L' and _SIGNED in np.ravel(tags.get(_SAMPLE_FORMAT, ())):
        found = 'signed numbers of 8 bits'
    else:
        return ''
    return f'{found} are not read exactly; expected 8 bits from 0, or one channel of integers'


def _values_of(image: Image.Image, path: Path, lossy: bool) -> RawMask:
    if lossy:
        black_and_white = np.asarray(image.convert('L')) > 127
        return RawMask(black_and_white * np.uint8(255), None, None, lossy)
    if image.has_transparency_data:
        hidden = np.argwhere(np.asarray(image.convert('RGBA'))[..., 3] < 255)
        if len(hidden):
            raise InputError(
                f'{path}: transparent at {at(hidden[0])}, which has no defined class: flatten the '
                'mask, such as onto black'
            )
    if image.mode == 'P':
        return RawMask(np.asarray(image), None, _palette_of(image), lossy)
    if image.mode in ('RGB', 'RGBA', 'RGBa', 'LA', 'La', 'PA'):
        red, green, blue = np.moveaxis(np.asarray(image.convert('RGB')).astype(np.int32), 2, 0)
        grey = np.array_equal(red, green) and np.array_equal(red, blue)
        return RawMask(red if grey else None, red << 16 | green << 8 | blue, None, lossy)
    numbers = np.asarray(image)
    if numbers.ndim != 2:
        raise InputError(
            f'{path}: of mode {image.mode}; expected one channel, a palette, or RGB colours'
        )
    if numbers.dtype.kind == 'f':
        wrong = np.argwhere(numbers != np.round(numbers))  # not-a-number too
        if len(wrong):
            value = numbers[tuple(wrong[0])]
            raise InputError(f'{path}: {value} at {at(wrong[0])}; expected whole numbers')
    small = numbers.dtype in (np.uint8, bool)
    return RawMask(numbers.astype(np.uint8 if small else np.int64), None, None, lossy)


def _palette_of(image: Image.Image) -> np.ndarray:
    """0xRRGGBB of the 256 places."""
    table = np.zeros((256, 3), np.int32)
    entries = np.asarray(image.getpalette('RGB'), np.int32).reshape(-1, 3)
    table[: len(entries)] = entries
    return table[:, 0] << 16 | table[:, 1] << 8 | table[:, 2]


def at(place) -> str:
    """A pixel (row, column) in a message."""
    return f'x={place[1]}, y={place[0]}'


def count_values(array: Optional[np.ndarray]) -> Optional[Dict[int, int]]:
    """Value to number of pixels."""
    if array is None:
        return None
    if array.dtype == np.uint8:  # in chunks of rows: bincount casts to 64 bits
        counts = sum(np.bincount(rows.ravel(), minlength=256) for rows in np.array_split(
            array, max(1, array.size >> 22)))
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, counts = np.unique(array, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


class ImageFacts(NamedTuple):
    """An image's size as the training sees it, and as its file stores it, (height, width).

    ``turn`` is the EXIF orientation, 2 to 8, or None.
    """

    shown: tuple
    stored: tuple
    turn: Optional[int]
    bits: int


def image_facts(path: Path) -> ImageFacts:
    """The facts of an image, which is decoded to its last byte.

    Raises:
        InputError: If it is unreadable or truncated.
    """
    shown = check_image(path)[::-1]
    with Image.open(path) as image:
        facts = describe_image(image)
    sideways = facts.turn is not None and facts.turn >= 5
    return ImageFacts(shown, shown[::-1] if sideways else shown, facts.turn, facts.bits)


def turned(mask: np.ndarray, turn: int) -> np.ndarray:
    """Rotate a mask (H, W) uint8 of the stored pixels to how a viewer shows the image."""
    return np.asarray(Image.fromarray(mask).transpose(EXIF_TURNS[turn]))
