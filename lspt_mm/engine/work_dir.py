"""Finds config and latest complete checkpoint in a work dir, and locks it."""

import logging
import os
import zipfile
from pathlib import Path
from typing import Optional, Tuple

from filelock import FileLock, Timeout
from mmengine.logging import print_log

from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.errors import InputError


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


def lock_work_dir(folder: str) -> FileLock:
    """Lock a work dir, so that no other run writes to the same files.

    In a distributed run, rank 0 takes the lock.

    Raises:
        InputError: If another run holds the lock.
    """
    lock = FileLock(Path(folder) / '.lock', timeout=0)
    try:
        if not int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))):
            lock.acquire()
        return lock
    except Timeout as error:
        raise InputError(
            f'the work dir {folder}: another run is at work there; name another folder (--work-dir)'
        ) from error


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
        for pattern in ('iter_*.pth', 'epoch_*.pth', INTERRUPTED) for path in place.glob(pattern)
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
