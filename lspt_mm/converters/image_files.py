"""Images in folders that are named after their classes."""

from pathlib import Path
from typing import List

from lspt_mm.utils.images import find_images


def classes_in(folder: Path) -> List[str]:
    """Names of the folders in ``folder``, sorted; hidden ones are none."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and p.name[0] != '.')


def images_in(folder: Path) -> List[str]:
    """Paths of all images of all classes, relative to ``folder``, sorted."""
    found = (path.relative_to(folder) for path in find_images(folder))
    return sorted(path.as_posix() for path in found if len(path.parts) > 1)
