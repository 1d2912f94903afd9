"""Finds config and latest complete checkpoint in a work dir, and locks it."""

import logging
import os
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, Optional, Tuple

from filelock import FileLock, Timeout
from mmengine.logging import print_log

from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.errors import InputError
from lspt_mm.utils.text import shorten


def find_config_and_checkpoint(folder) -> Tuple[str, str]:
    """Find the config and the last complete checkpoint in a work dir, which may have been moved.

    Raises:
        InputError: If it has no config or checkpoint, or more than one config.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f'{folder}: no such folder; expected the work dir of tools/train.py')
    configs = sorted(folder.glob('*.py'))
    if len(configs) != 1:
        found = ', '.join(path.name for path in configs) or 'no .py file'
        raise InputError(
            f'{folder}: expected one config in it, as tools/train.py writes it into its work dir, '
            f'but found {found}'
        )
    checkpoint = latest_checkpoint(str(folder))
    if checkpoint is None:
        raise InputError(f'{folder}: it holds no checkpoint yet')
    return str(configs[0]), checkpoint


#: Checkpoint of a run stopped by a signal, between the regular ones.
INTERRUPTED = 'interrupted.pth'
#: File that names the checkpoint to resume from.
LAST = 'last_checkpoint'
_CHECKPOINTS = ('iter_*.pth', 'epoch_*.pth', INTERRUPTED)


def lock_work_dir(folder: str) -> FileLock:
    """Lock a work dir, so that no other run writes to the same files.

    In a distributed run, rank 0 takes the lock. Who holds it may take it again; it is free after
    as many releases.

    Raises:
        InputError: If another run holds the lock.
    """
    lock = FileLock(Path(folder) / '.lock', timeout=0, is_singleton=True)
    try:
        if not int(os.environ.get('RANK', 0)):
            lock.acquire()
        return lock
    except Timeout as error:
        raise InputError(
            f'the work dir {folder}: another run is at work there; name another folder '
            '(--work-dir, or --out)'
        ) from error


@contextmanager
def locked_work_dir(folder) -> Iterator[None]:
    """Hold the lock of :func:`lock_work_dir` inside the block."""
    lock = lock_work_dir(folder)
    try:
        yield
    finally:
        lock.release()


def set_aside(folder: str) -> None:
    """Rename what an earlier run left in a work dir, so that it is not taken for a new run's.

    Checkpoints and ``validation.json`` become ``earlier_NAME``; ``last_checkpoint`` is removed.
    """
    found = [path for pattern in (*_CHECKPOINTS, 'validation.json')
             for path in sorted(Path(folder).glob(pattern)) if path.is_file()]
    for path in found:
        path.replace(path.with_name(f'earlier_{path.name}'))
    Path(folder, LAST).unlink(missing_ok=True)
    if found:
        print_log(f'{folder} has an earlier run; this one starts over (--resume would continue '
                  f'that). Renamed to earlier_*: {shorten(path.name for path in found)}',
                  'current', level=logging.WARNING)


def latest_checkpoint(folder: str) -> Optional[str]:
    """The checkpoint to resume from in a work dir; None if there never was one.

    This is the one that ``last_checkpoint`` names, searched first in the work dir itself, which
    may be a copy. If that one is truncated, damaged or missing, it is the complete checkpoint of
    the highest iteration. Each skipped one is logged as a warning.

    Raises:
        InputError: If there are checkpoints, but none is complete.
    """
    folder = Path(folder)
    named = _named_by(folder / LAST)
    if named and (folder / named.name).is_file():
        named = folder / named.name
    others = [
        path for place in dict.fromkeys((folder, named.parent if named else folder))
        for pattern in _CHECKPOINTS for path in place.glob(pattern)
    ]
    if named is None and not others:
        return None
    problems = []
    for paths in ([named] if named else [], [path for path in others if path != named]):
        found = {}
        for path in paths:
            try:
                found[read_training_checkpoint(path)['meta']['iter']] = path
            except InputError as error:
                problems.append(str(error))
                print_log(f'not resumed from {path}: {error}', 'current', level=logging.WARNING)
        if found:
            return str(found[max(found)])
    raise InputError(
        f'no checkpoint in {folder} can be resumed from: {"; ".join(problems)}'
    )


def read_training_checkpoint(path) -> dict:
    """Read a checkpoint of a training run and verify its checksums.

    Raises:
        InputError: If it is missing, truncated, damaged, or not of a training run.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'--resume {path}: no such checkpoint file')
    damaged = None
    try:
        if zipfile.is_zipfile(path):  # torch does not compare the checksums of a file's parts
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
    except Exception as error:  # zipfile raises many types for damaged files
        raise InputError(f'{path}: not a complete checkpoint file ({error})') from error
    if damaged:
        raise InputError(f'{path}: damaged, the checksum of {damaged} does not match')
    content = read_checkpoint(str(path))
    meta = content.get('meta')
    if not isinstance(meta, dict) or not {'iter', 'epoch'} <= set(meta):
        raise InputError(
            f'{path}: holds no state of a training run (a published file?); to start a '
            f'new run from it: --cfg-options load_from={path}'
        )
    return content


def _named_by(file: Path) -> Optional[Path]:
    """The path in a ``last_checkpoint`` file, if it has one."""
    try:
        text = file.read_text(encoding='utf-8').strip()
    except (OSError, UnicodeDecodeError):
        return None
    return Path(text) if text and '\0' not in text else None
