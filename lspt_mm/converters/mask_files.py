"""Reading masks as people have them: numbers, palettes, colours, grey saved as colour."""

from pathlib import Path
from typing import Dict, NamedTuple, Optional

import mmcv
import numpy as np
from PIL import Image

from lspt_mm.converters.mask_classes import Colour
from lspt_mm.errors import InputError
from lspt_mm.utils.images import check_image

_ORIENTATION = 0x0112
#: What a viewer does to an image with each EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class RawMask(NamedTuple):
    """A mask as its file has it.

    Attributes:
        numbers (ndarray or None): (H, W) integers, where the file has one channel, or three that
            are equal.
        colours (ndarray or None): (H, W) of 0xRRGGBB, where it has colours or a palette.
        palette (dict): Number to colour, of the numbers used, where it has a palette.
        lossy (bool): Whether the file is a JPEG.
    """

    numbers: Optional[np.ndarray]
    colours: Optional[np.ndarray]
    palette: Dict[int, Colour]
    lossy: bool


def read_mask(path: Path) -> RawMask:
    """Read a mask, its pixels as they are stored.

    Fully transparent pixels of a mask with transparency count as black.

    Raises:
        InputError: For a file that cannot be read, or holds other numbers than integers.
    """
    try:
        with Image.open(path) as image:
            lossy = image.format in ('JPEG', 'MPO')
            mode = image.mode
            if mode == 'P':
                return _of_palette(image, lossy)
            if mode in ('LA', 'PA', 'La', 'RGBA', 'RGBa', 'RGB', 'CMYK', 'YCbCr', 'LAB', 'HSV'):
                return _of_colours(np.asarray(image.convert('RGBA')), lossy)
            array = np.asarray(image)
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f'{path}: does not exist') from error
    except Exception as error:  # decoders raise what they like for broken files
        raise InputError(f'{path}: cannot be read as a mask ({error})') from error
    if array.ndim != 2:
        raise InputError(f'{path}: a mask of mode {mode}; expected numbers or colours')
    numbers = array.astype(np.int64)
    if not np.array_equal(numbers, array):
        raise InputError(f'{path}: a mask of fractions ({mode}); expected whole numbers')
    return RawMask(numbers, None, {}, lossy)


def _of_palette(image: Image.Image, lossy: bool) -> RawMask:
    numbers = np.asarray(image).astype(np.int64)
    table = np.zeros((256, 3), np.int64)
    entries = np.asarray(image.getpalette('RGB'), np.int64).reshape(-1, 3)
    table[: len(entries)] = entries
    packed = table[:, 0] << 16 | table[:, 1] << 8 | table[:, 2]
    used = np.unique(numbers)
    palette = {int(value): tuple(int(v) for v in table[value]) for value in used}
    return RawMask(numbers, packed[numbers], palette, lossy)


def _of_colours(rgba: np.ndarray, lossy: bool) -> RawMask:
    array = rgba.astype(np.int64) * (rgba[..., 3:] > 0)
    red, green, blue = (array[..., i] for i in range(3))
    grey = np.array_equal(red, green) and np.array_equal(green, blue)
    return RawMask(red if grey else None, red << 16 | green << 8 | blue, {}, lossy)


class ImageFacts(NamedTuple):
    """An image's size as the training sees it, and as its file stores it, (height, width).

    ``turn`` is the EXIF orientation, 2 to 8, that the loader follows; None if there is none.
    """

    shown: tuple
    stored: tuple
    turn: Optional[int]
    depth: int


def image_facts(path: Path) -> ImageFacts:
    """Decode an image as the training's loader does.

    Raises:
        InputError: If it is unreadable or truncated.
    """
    check_image(path)  # finds truncated files, which the loader takes for whole
    try:
        shown = mmcv.imread(str(path)).shape[:2]
    except Exception as error:
        raise InputError(f'{path}: cannot be read by the loader of the training') from error
    with Image.open(path) as image:
        stored = image.size[::-1]
        turn = image.getexif().get(_ORIENTATION, 1)
        depth = 16 if image.mode.startswith(('I', 'F')) else 8
    if turn not in TURNS or (turn >= 5 and shown == stored and stored[0] != stored[1]):
        turn = None  # none, or one that the loader does not follow
    return ImageFacts(tuple(shown), tuple(stored), turn, depth)


def turned(mask: np.ndarray, turn: int) -> np.ndarray:
    """A mask (H, W) uint8 that was drawn on the stored pixels, as a viewer shows the image."""
    return np.asarray(Image.fromarray(mask).transpose(TURNS[turn]))
