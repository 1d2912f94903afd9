"""Image files: which files are images, whether one can be decoded, and colours of classes."""

import colorsys
import os
from pathlib import Path
from typing import List, Tuple, Union

from PIL import Image, UnidentifiedImageError

from lspt_mm.errors import InputError

#: Suffixes of image files, in lower case.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm')
#: ImageNet's mean and standard deviation, for RGB values of 0 to 255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
#: Value of label images that losses and metrics leave out.
IGNORE_INDEX = 255

_EXIF_ORIENTATION = 0x0112


def is_image(name: str) -> bool:
    """Whether a file of this name is an image; hidden files are not."""
    name = os.path.basename(name)
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')


def find_images(folder: Union[str, Path]) -> List[Path]:
    """Paths of all images in ``folder`` and below it, sorted; hidden folders are passed over."""
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith('.')]
        found += [Path(parent) / name for name in names if is_image(name)]
    return sorted(found)


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
            rotated = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
            image.draft('RGB', (max(1, width // 8), max(1, height // 8)))
            image.load()
    except FileNotFoundError as error:
        raise InputError(f'{path}: does not exist') from error
    except UnidentifiedImageError as error:
        raise InputError(f'{path}: cannot be read as an image') from error
    except Exception as error:  # decoders raise any type for broken files
        raise InputError(f'{path}: cannot be read as an image ({error})') from error
    return (height, width) if rotated else (width, height)


def spread_colours(count: int) -> List[Tuple[int, int, int]]:
    """RGB colours (0 to 255) of ``count`` classes: dark grey, then hues far from each other."""
    colours = [(60, 60, 60)]
    for i in range(count - 1):
        # Multiples of the golden ratio spread evenly over the circle, for any number of them.
        hue, ring = i * 0.618034 % 1, i // 8 % 3
        rgb = colorsys.hsv_to_rgb(hue, (0.75, 0.5, 1.0)[ring], (0.95, 0.75, 0.6)[ring])
        colours.append(tuple(round(255 * part) for part in rgb))
    return colours[:count]
