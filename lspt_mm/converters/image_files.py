"""Images in folders that are named after their classes."""

import os
from pathlib import Path
from typing import List

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm')


def classes_in(folder: Path) -> List[str]:
    """Names of the folders in ``folder``, sorted; hidden ones are none."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != '.')


def images_in(folder: Path) -> List[str]:
    """Paths of all images of all classes, relative to ``folder``, sorted."""
    found = []
    for name in classes_in(folder):
        for parent, _, files in os.walk(folder / name, followlinks=True):
            inside = Path(parent).relative_to(folder)
            found += [
                (inside / file).as_posix() for file in files
                if file.lower().endswith(SUFFIXES) and file[0] != '.'
            ]  # fmt: skip
    return sorted(found)
