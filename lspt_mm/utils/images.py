"""Image files: which files are images, whether one can be decoded, and colours of classes."""

import colorsys
import io
import os
import re
from collections import Counter
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import cv2
import numpy as np
from mmengine.fileio import LocalBackend, register_backend
from PIL import Image, ImageOps, UnidentifiedImageError

from lspt_mm.errors import InputError

#: Suffixes of image files, in lower case; the content decides where a file has another.
IMAGE_SUFFIXES = (
    '.jpg', '.jpeg', '.jfif', '.jpe', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm',
    '.pnm', '.jp2',
)  # fmt: skip
#: How such files begin.
_SIGNATURES = (
    rb'\xff\xd8\xff', rb'\x89PNG\r\n', rb'BM.{12}[\x0c-\x7f]\0\0\0', rb'RIFF....WEBP', rb'II\*\0',
    rb'MM\0\*', rb'II\+\0', rb'MM\0\+', rb'P[2356]\s', rb'\0\0\0\x0cjP  ', rb'GIF8[79]a',
)  # fmt: skip
_IS_IMAGE = re.compile(rb'|'.join(_SIGNATURES), re.DOTALL)
#: Folders and files that programs leave beside one's images.
_GENERATED = {'__MACOSX', '@eaDir', '$RECYCLE.BIN', 'System Volume Information', 'Thumbs.db',
              'desktop.ini'}  # fmt: skip
#: Name of :class:`ImageBackend`.
BACKEND = 'lspt_mm.images'
#: ImageNet's mean and standard deviation, for RGB values of 0 to 255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
#: Value of label images that losses and metrics leave out.
IGNORE_INDEX = 255

#: What a viewer does to an image with each EXIF orientation.
EXIF_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION = 0x0112


class FileFacts(NamedTuple):
    """What an image file holds beside its pixels.

    Attributes:
        pages: Number of pictures in it.
        bits: Of a channel. Pillow decodes 16 bits of colours to the upper 8.
        turn: EXIF orientation that turns it, 2 to 8; None if there is none.
        rescaled: Whether Pillow stretches its values to 8 or 16 bits (PGM with another maximum).
    """

    pages: int
    bits: int
    turn: Optional[int]
    rescaled: bool


def describe_image(image: Image.Image) -> FileFacts:
    """The facts of an image that :func:`PIL.Image.open` gave, not yet decoded."""
    how = [str(tile[3]) for tile in image.tile]
    bits = 32 if image.mode in ('I', 'F') else 8
    if image.mode.startswith('I;16') or any(';16' in one for one in how):
        bits = 16
    highest = next((tile[3][1] for tile in image.tile if str(tile[0]).startswith('ppm')), 255)
    turn = image.getexif().get(_EXIF_ORIENTATION)
    return FileFacts(
        getattr(image, 'n_frames', 1),
        16 if highest > 255 else bits,
        turn if turn in EXIF_TURNS else None,
        highest not in (255, 65535) or (highest == 65535 and len(image.getbands()) > 1),
    )


class FoundFiles(NamedTuple):
    """Images of a folder, and how many files of each suffix are none."""

    images: List[Path]
    others: Dict[str, int]

    def left_out(self) -> str:
        """What is no image, in words: '' or such as ``5 files left out (3 .txt, 2 .json)``."""
        kinds = ', '.join(f'{count} {suffix}' for suffix, count in sorted(self.others.items()))
        count = sum(self.others.values())
        return f'{count} file{"s" * (count != 1)} left out ({kinds})' if kinds else ''


def is_image(path: Union[str, Path]) -> bool:
    """Whether a file is an image by its suffix or by its first bytes."""
    if str(path).lower().endswith(IMAGE_SUFFIXES):
        return True
    try:
        with open(path, 'rb') as file:
            return bool(_IS_IMAGE.match(file.read(32)))
    except OSError:
        return False


def is_hidden(name: str) -> bool:
    """Whether a file or folder is not the user's own: hidden, or left by a program."""
    return name.startswith('.') or name in _GENERATED


def folders_in(folder: Union[str, Path]) -> List[str]:
    """Names of the folders in ``folder``, sorted; hidden ones, and programs' own, are none."""
    return sorted(p.name for p in Path(folder).iterdir() if p.is_dir() and not is_hidden(p.name))


def list_images(folder: Union[str, Path]) -> FoundFiles:
    """All images in ``folder`` and below it, sorted, links followed.

    Hidden folders, and those of thumbnails, are passed over.
    """
    found, others, seen = [], Counter(), set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        place = os.stat(parent)
        known = (place.st_dev, place.st_ino) in seen  # a link to a folder above
        seen.add((place.st_dev, place.st_ino))
        folders[:] = [] if known else sorted(name for name in folders if not is_hidden(name))
        for name in [] if known else names:
            path = Path(parent) / name
            if is_hidden(name):
                continue
            if is_image(path):
                found.append(path)
            else:
                others[path.suffix.lower() or 'without suffix'] += 1
    return FoundFiles(sorted(found), dict(others))


def find_images(folder: Union[str, Path]) -> List[Path]:
    """The images of :func:`list_images`."""
    return list_images(folder).images


def check_image(path: Union[str, Path]) -> Tuple[int, int]:
    """Decode an image to its last byte, at low resolution where the format allows it.

    Returns:
        tuple: Width and height in pixels, as the EXIF orientation has them.

    Raises:
        InputError: If it is absent, unreadable or truncated.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            # Pillow's size of a TIFF is turned already.
            turn = 1 if image.format == 'TIFF' else image.getexif().get(_EXIF_ORIENTATION, 1)
            image.draft('RGB', (max(1, width // 8), max(1, height // 8)))
            image.load()
    except FileNotFoundError as error:
        raise InputError(f'{path}: does not exist') from error
    except UnidentifiedImageError as error:
        raise InputError(f'{path}: cannot be read as an image') from error
    except Exception as error:  # decoders raise any type for broken files
        raise InputError(f'{path}: cannot be read as an image ({error})') from error
    return (height, width) if turn in (5, 6, 7, 8) else (width, height)


def read_image(path: Union[str, Path]) -> np.ndarray:
    """An image (H, W, 3) uint8 RGB, as training, testing and predictions see it.

    Raises:
        InputError: As :func:`decode_image`.
    """
    try:
        return decode_image(Path(path).read_bytes())
    except InputError as error:
        raise InputError(f'{path}: {error}') from error
    except OSError as error:
        raise InputError(f'{path}: cannot be read ({error})') from error


def decode_image(content: bytes) -> np.ndarray:
    """An image file's content as (H, W, 3) uint8 RGB.

    Turned as its orientation tag says; transparent parts on white; CMYK, LAB and other colour
    spaces converted; integers of 16 bits by their upper 8; other numbers as they are if they lie
    in 0 to 255, else from their least to their largest; of several pages the first.

    Raises:
        InputError: If it cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if not _needs_pillow(image):
                return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
            return _to_rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # decoders raise any type for broken files
        raise InputError(f'cannot be read as an image ({error})') from error


def _needs_pillow(image: Image.Image) -> bool:
    """Whether OpenCV, which is faster, would give other pixels."""
    turned = describe_image(image).turn is not None and image.format != 'JPEG'
    plain = image.mode in ('1', 'L', 'P', 'RGB') or image.mode.startswith('I;16')
    read = image.format in ('JPEG', 'PNG', 'BMP', 'WEBP', 'PPM', 'TIFF', 'JPEG2000')
    return turned or not plain or not read or image.has_transparency_data


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.has_transparency_data:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
    elif image.mode.startswith(('I', 'F')):
        image = Image.fromarray(eight_bits(np.asarray(image)))
    return np.asarray(image.convert('RGB'))


def eight_bits(values: np.ndarray) -> np.ndarray:
    """One channel of more bits (H, W) as uint8, by the rule of :func:`decode_image`."""
    if values.dtype.kind in 'iu' and values.min() >= 0 and 255 < values.max() < 65536:
        return (values.astype(np.int64) >> 8).astype(np.uint8)
    values = values.astype(np.float64)
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    if low >= 0 and high <= 255 and np.array_equal(known, np.round(known)):
        low, high = 0.0, 255.0
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / ((high - low) or 1)
    return np.round(scaled * 255).astype(np.uint8)


class ImageBackend(LocalBackend):
    """MMEngine's files, with images as :func:`decode_image` reads them.

    For ``backend_args=dict(backend='lspt_mm.images')`` of ``LoadImageFromFile``, whose name the
    inferencers of mmseg and mmpretrain look for. What OpenCV reads as well comes as it is.
    """

    def get(self, filepath) -> bytes:
        """The content of a file; of images that OpenCV reads otherwise, a bitmap."""
        content = super().get(filepath)
        try:
            with Image.open(io.BytesIO(content)) as image:
                plain = not _needs_pillow(image)
        except Exception:  # the loader says what is wrong with it
            return content
        if plain:
            return content
        return cv2.imencode('.bmp', decode_image(content)[..., ::-1])[1].tobytes()


register_backend(BACKEND, ImageBackend, force=True)


def spread_colours(count: int) -> List[Tuple[int, int, int]]:
    """RGB colours (0 to 255) of ``count`` classes: dark grey, then hues far from each other."""
    colours = [(60, 60, 60)]
    for i in range(count - 1):
        # Multiples of the golden ratio spread evenly over the circle, for any number of them.
        hue, ring = i * 0.618034 % 1, i // 8 % 3
        rgb = colorsys.hsv_to_rgb(hue, (0.75, 0.5, 1.0)[ring], (0.95, 0.75, 0.6)[ring])
        colours.append(tuple(round(255 * part) for part in rgb))
    return colours[:count]
