"""Files that are there as a whole or not at all."""

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Union


@contextmanager
def atomic_write(path: Union[str, Path]) -> Iterator[Path]:
    """A path to write to in the place of ``path``, which gets the file when all of it is on disk.

    Whatever interrupts the block, or a power failure after it, leaves either the former file or the
    new one under that name. What was written when an error ends the block is removed.

    Raises:
        OSError: If the file cannot be written: no space, no permission.
    """
    path = Path(path)
    unfinished = path.with_name(f'.{path.name}.part')
    try:
        yield unfinished
        with open(unfinished, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Union[str, Path], text: str) -> None:
    """Write ``text`` (UTF-8) by :func:`atomic_write`."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding='utf-8')


def _sync_folder(folder: Path) -> None:
    """Have a folder's new names on disk, where the file system can do so."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
