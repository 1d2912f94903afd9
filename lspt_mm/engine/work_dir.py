"""The work dir of a run: its config, and its latest checkpoint that is complete."""

import logging
import zipfile
from pathlib import Path
from typing import Optional, Tuple

from mmengine.logging import print_log

from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.errors import InputError


def find_config_and_checkpoint(folder) -> Tuple[str, str]:
    """Paths of the config and of the last whole checkpoint in the work dir of a run.

    A work dir may have been moved since.

    Raises:
        InputError: If there is no config or checkpoint in it, or more than one config.
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
    try:
        checkpoint = latest_checkpoint(str(folder))
    except InputError as error:
        raise InputError(str(error).removeprefix('--resume: ')) from error
    if checkpoint is None:
        raise InputError(f'{folder}: there is no checkpoint in it; has the run begun?')
    return str(configs[0]), checkpoint


#: Written when a run is told to stop, between its regular checkpoints.
INTERRUPTED = 'interrupted.pth'


#: Names the checkpoint to go on from.
LAST = 'last_checkpoint'


def latest_checkpoint(folder: str) -> Optional[str]:
    """The checkpoint to go on from in a work dir; None if there never was one.

    That is what ``last_checkpoint`` names (the file of that name in the work dir itself, if there
    is one: it may be a copy, or have been moved), or if it is torn, damaged or gone, the one of the
    greatest iteration among the others, with a warning for each that was passed over.

    Raises:
        InputError: If there are checkpoints, but none is whole.
    """
    folder = Path(folder)
    named = _named_by(folder / LAST)
    if named and (folder / named.name).is_file():
        named = folder / named.name
    others = [
        path for place in dict.fromkeys((folder, named.parent if named else folder))
        for pattern in ('iter_*.pth', 'epoch_*.pth', INTERRUPTED) for path in place.glob(pattern)
    ]  # fmt: skip
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
        f'--resume: no checkpoint in {folder} can be gone on from: {"; ".join(problems)}'
    )


def read_training_checkpoint(path) -> dict:
    """Read a checkpoint of a training run, every byte of it checked.

    Raises:
        InputError: If it is absent, torn, damaged, or not of a training run.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f'--resume {path}: no such checkpoint file')
    try:
        if zipfile.is_zipfile(path):  # torch reads a file's parts without their checksums
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged:
                raise InputError(f'{path}: damaged, the checksum of {damaged} is another')
    except InputError:
        raise
    except Exception as error:  # zipfile raises what it likes for damaged files
        raise InputError(f'{path}: not a whole checkpoint file ({error})') from error
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
