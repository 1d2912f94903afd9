"""Checkpoints that are whole or absent, and finding the last one that is whole."""

import logging
import zipfile
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Optional

from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import Runner

from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.errors import InputError
from lspt_mm.whole_files import write_text, written_whole

#: Written when a run is told to stop, between its regular checkpoints.
INTERRUPTED = 'interrupted.pth'
#: Names the checkpoint to go on from.
LAST = 'last_checkpoint'
_BACKEND = 'lspt_mm.whole'
_KEPT = 'keep_ckpt_ids'


class WholeFileBackend(LocalBackend):
    """MMEngine's backend of local files, whose files appear under their names when complete."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._to_remove: Optional[List[str]] = None

    def put(self, obj: bytes, filepath) -> None:
        """Write bytes."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        with written_whole(filepath) as unfinished:
            unfinished.write_bytes(obj)

    def remove(self, filepath) -> None:
        """Remove a file, behind the block where removals come last."""
        if self._to_remove is None:
            super().remove(filepath)
        else:
            self._to_remove.append(filepath)

    @contextmanager
    def removals_last(self) -> Iterator[None]:
        """Remove nothing before the block has ended, and nothing at all when an error ends it."""
        if self._to_remove is not None:  # a block in a block: the outer one removes
            before = len(self._to_remove)
            try:
                yield
            except BaseException:
                del self._to_remove[before:]
                raise
            return
        self._to_remove = []
        try:
            yield
            outdated = self._to_remove
        finally:
            self._to_remove = None
        for path in outdated:
            if self.isfile(path):
                self.remove(path)


register_backend(_BACKEND, WholeFileBackend)


class WholeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` that never leaves half a file, nor a run without one.

    A checkpoint is written aside, brought to disk, and only then gets its name; ``last_checkpoint``
    and the removal of old ones (``max_keep_ckpts``, ``save_best``) come after. When it cannot be
    written (a full disk) the run goes on with a message, its earlier checkpoints untouched; at the
    end of training, where no other comes after, it ends with an error.

    On other storage than local files the backend's own writing is relied on.

    Args:
        **kwargs: Arguments of MMEngine's hook.

    Raises:
        InputError: If the last checkpoint, or that of a stopped run, cannot be written.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        elsewhere = self.file_client_args is not None or '://' in (self.out_dir or '')
        self._whole = self.backend_args is None and not elsewhere
        if self._whole:
            self.backend_args = {'backend': _BACKEND}

    def before_train(self, runner: Runner) -> None:
        """Remove what a killed run has left unfinished."""
        super().before_train(runner)
        if self._whole and runner.rank == 0 and Path(self.out_dir).is_dir():
            for unfinished in Path(self.out_dir).glob('.*.pth.part'):
                unfinished.unlink()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._all_or_nothing(runner, f'checkpoint {self.filename_tmpl.format(step)}'):
            super()._save_checkpoint_with_step(runner, step, meta)
            if runner.rank == 0:
                self.file_backend.remove(self._path(INTERRUPTED))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._all_or_nothing(runner, 'best checkpoint'):
            super()._save_best_checkpoint(runner, metrics)

    def save_interrupted(self, runner: Runner, iteration: int) -> str:
        """Save the state behind so many iterations to ``interrupted.pth``; return its path.

        Raises:
            InputError: If the file cannot be written.
        """
        path = self._path(INTERRUPTED)
        runner.message_hub.update_info('last_ckpt', path)
        try:
            runner.save_checkpoint(
                self.out_dir, INTERRUPTED, save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta={'epoch': runner.epoch, 'iter': iteration}, by_epoch=False,
                backend_args=self.backend_args,
            )  # fmt: skip
            if runner.rank == 0:
                write_text(Path(runner.work_dir) / LAST, path)
        except OSError as error:
            raise InputError(f'{path} cannot be written: {error}') from error
        return path

    def _path(self, name: str) -> str:
        return self.file_backend.join_path(self.out_dir, name)

    @contextmanager
    def _all_or_nothing(self, runner: Runner, what: str) -> Iterator[None]:
        """Undo what a failed save has changed in this hook and in the message hub."""
        if not self._whole:
            yield
            return
        own = {name: getattr(self, name, None) for name in ('last_ckpt', 'best_ckpt_path')}
        kept = list(getattr(self, _KEPT, ()))
        best = dict(getattr(self, 'best_ckpt_path_dict', {}))
        info = dict(runner.message_hub.runtime_info)
        try:
            with self.file_backend.removals_last():
                yield
        except OSError as error:
            if runner.iter + 1 >= runner.max_iters:
                raise InputError(
                    f'the {what}, the last one of the run, cannot be written: {error}. The ones '
                    f'before it in {self.out_dir} are whole: make room and go on with --resume'
                ) from error
            runner.logger.error(
                f'the {what} cannot be written: {error}. The run goes on; its earlier checkpoints '
                'are whole'
            )
            for name, value in own.items():
                setattr(self, name, value)
            if self.max_keep_ckpts > 0:
                self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
            if best:
                self.best_ckpt_path_dict = best
            runner.message_hub.runtime_info.clear()
            runner.message_hub.runtime_info.update(info)


def latest_whole_checkpoint(folder: str) -> Optional[str]:
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
                found[whole_checkpoint(path)['meta']['iter']] = path
            except InputError as error:
                problems.append(str(error))
                print_log(f'not resumed from {path}: {error}', 'current', level=logging.WARNING)
        if found:
            return str(found[max(found)])
    raise InputError(
        f'--resume: no checkpoint in {folder} can be gone on from: {"; ".join(problems)}'
    )


def whole_checkpoint(path) -> dict:
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
