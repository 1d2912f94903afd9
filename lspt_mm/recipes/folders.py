"""Folders that ``prepare.py imagefolder`` or ``own_masks.py`` wrote."""

from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
from PIL import Image

from lspt_mm.errors import InputError
from lspt_mm.utils.atomic_io import read_json

ABOUT = 'about.json'


def images_of(folder: str) -> Dict[str, Any]:
    """Read what ``prepare.py imagefolder`` wrote about a folder.

    Returns:
        dict: ``classes``, their names in the order of their numbers; ``multi_label``, whether an
        image may have several of them or none; ``held_out``, 'test', or 'val' without a test.

    Raises:
        InputError: If the folder was not prepared.
    """
    about = _about(
        folder, ('classes', 'images'),
        'Lay out a folder of images with tools/dataset_converters/prepare.py imagefolder --from '
        f'IMAGES --to {folder}, and name it: configs/imagefolder/transfer.py:task=FOLDER',
    )
    return {
        'classes': list(about['classes']), 'multi_label': bool(about.get('multi_label')),
        'held_out': 'test' if 'test' in about['images'] else 'val',
    }


def _about(folder: str, keys: Tuple[str, ...], how: str) -> Dict[str, Any]:
    """The folder's ``about.json``, with these keys.

    Raises:
        InputError: If it does not exist or lacks one of them; ``how`` is what to do.
    """
    path = Path(folder) / ABOUT
    if not path.is_file():
        raise InputError(f'{path} does not exist. {how}')
    about = read_json(path)
    found = about if isinstance(about, dict) else {}
    kinds = dict(name=str, classes=list, palette=list, images=dict, pixels=list)
    lacking = [key for key in keys if not isinstance(found.get(key), kinds[key])]
    if lacking:
        raise InputError(f'{path}: has no {", ".join(lacking)} as prepared. {how}')
    return about


def images_per_class(folder: str) -> List[int]:
    """How many training images each class has, in the order of the classes' numbers.

    Raises:
        InputError: If the folder was not prepared.
    """
    counts = [0] * len(images_of(folder)['classes'])
    for label in read_json(Path(folder) / 'train.json').values():
        counts[label] += 1
    return counts


def usual_size(folder: str) -> Tuple[int, int]:
    """Median height and width of the training images of a folder of ``own_masks``, in pixels.

    Read from the headers of at most fifty of them; those that cannot be read are left out.
    """
    path = Path(folder) / 'train.json'
    names = list(read_json(path)) if path.is_file() else []  # the data set reports an absent file
    sizes = []
    for name in names[:: max(1, len(names) // 50)]:
        with suppress(OSError), Image.open(Path(folder) / 'images' / name) as image:
            sizes.append(image.size)
    width, height = np.median(sizes, axis=0) if sizes else (512, 512)
    return int(height), int(width)


def masks_of(folder: str) -> Dict[str, Any]:
    """Read what ``own_masks.py`` wrote: name, classes, palette, images of each split, pixels.

    Raises:
        InputError: If the folder was not prepared, or for another task.
    """
    how = (
        'Lay out your images and masks with: python -m lspt_mm own_masks --images IMAGES '
        f'--masks MASKS --to {folder}, and name the folder: maskfolder/transfer.py:data=FOLDER'
    )
    keys = ('name', 'classes', 'palette', 'images', 'pixels')
    about = _about(folder, keys, how)
    if not about['classes'] or len(about['classes']) != len(about['palette']):
        raise InputError(
            f'{folder}/{ABOUT}: expected as many colours in its palette as classes. {how}'
        )
    return {key: about[key] for key in keys}
