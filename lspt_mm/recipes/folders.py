"""Folders that ``prepare.py imagefolder`` wrote."""

import json
from pathlib import Path
from typing import List

from lspt_mm.errors import InputError

ABOUT = 'about.json'


def classes_of(folder: str) -> List[str]:
    """Names of the classes, in the order of their numbers.

    Raises:
        InputError: If the folder was not prepared.
    """
    path = Path(folder) / ABOUT
    try:
        classes = json.loads(path.read_text(encoding='utf-8'))['classes']
    except FileNotFoundError as error:
        raise InputError(
            f'{path} does not exist. Lay out a folder of images with '
            f'tools/dataset_converters/prepare.py imagefolder --from IMAGES --to {folder}, and '
            'name it: configs/imagefolder/transfer.py:task=FOLDER'
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f'{path}: not as prepare.py writes it ({error!r})') from error
    return list(classes)
