"""Files written atomically, and JSON files read with errors that name them."""

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Union

from lspt_mm.errors import InputError


@contextmanager
def atomic_write(path: Union[str, Path]) -> Iterator[Path]:
    """Yield a temporary path; its file replaces ``path`` after the block, once it is on disk.

    An interruption, or a power failure, leaves either the old file or the new one under that name.
    An error in the block removes the temporary file.

    Raises:
        OSError: If the file cannot be written: no space, no permission.
    """
    path = Path(path)
    unfinished = path.with_name(f'.{path.name}.part')
    try:
        yield unfinished
        with open(unfinished, 'r+b') as file:  # Windows syncs only what may be written
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


def read_json(path: Union[str, Path], **options) -> Any:
    """Content of a JSON file; ``options`` as in ``json.loads``.

    Raises:
        InputError: If the file does not exist, or is no JSON file.
    """
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'), **options)
    except FileNotFoundError as error:
        raise InputError(f'{path} does not exist') from error
    except (ValueError, RecursionError) as error:  # ValueError: of UTF-8 as well
        raise InputError(f'{path}: not a JSON file ({error})') from error


def write_json(path: Union[str, Path], content: Any) -> None:
    """:func:`write_text` of ``content`` as JSON."""
    write_text(path, json.dumps(content, indent=1) + '\n')


def _sync_folder(folder: Path) -> None:
    """Sync a folder's entries to disk, where the file system can."""
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
