"""Folders of images named after their classes, and lists of images, written together."""

import json
import os
from pathlib import Path
from typing import Dict, List, Tuple

from lspt_mm.utils.images import find_images

#: Images of a split in order: path relative to the data set's folder, label from 0.
Pairs = List[Tuple[str, int]]


def classes_in(folder: Path) -> List[str]:
    """Names of the folders in ``folder``, sorted; hidden ones are none."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != '.')


def images_in(folder: Path) -> List[str]:
    """Paths of all images of all classes, relative to ``folder``, sorted."""
    found = (path.relative_to(folder) for path in find_images(folder))
    return sorted(path.as_posix() for path in found if len(path.parts) > 1)


def as_json(pairs: Pairs) -> str:
    """``{path: label}``, a line for each image."""
    return json.dumps(dict(pairs), indent=0, ensure_ascii=False) + '\n'


def as_lines(pairs: Pairs) -> str:
    """Lines ``path label``."""
    return ''.join(f'{name} {label}\n' for name, label in pairs)


def about_json(facts: dict) -> str:
    """The text of ``about.json``."""
    return json.dumps(facts, indent=1, ensure_ascii=False) + '\n'


def write_lists(folder: Path, texts: Dict[str, str]) -> None:
    """Write the files of one folder as a set.

    Each gets its name only when it is whole, and old ones are removed before the first new one
    appears: an interruption leaves files missing, but never a mixture of two sets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        _part(folder, name).write_text(text, encoding='utf-8')
    for name in texts:
        (folder / name).unlink(missing_ok=True)
    for name in texts:
        os.replace(_part(folder, name), folder / name)


def _part(folder: Path, name: str) -> Path:
    return folder / f'.{name}.part'
