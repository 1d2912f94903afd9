"""Checkpoint hook and storage backend that write atomically."""

from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Optional

from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from lspt_mm.engine.work_dir import INTERRUPTED, LAST
from lspt_mm.errors import InputError
from lspt_mm.utils.atomic_io import atomic_write, write_text

_BACKEND = 'lspt_mm.whole'
_KEPT = 'keep_ckpt_ids'


class AtomicLocalBackend(LocalBackend):
    """MMEngine's local backend, which writes files atomically."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._to_remove: Optional[List[str]] = None

    def put(self, obj: bytes, filepath) -> None:
        """Write bytes."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(filepath) as unfinished:
            unfinished.write_bytes(obj)

    def remove(self, filepath) -> None:
        """Remove a file; inside :meth:`removals_last`, at the end of the block."""
        if self._to_remove is None:
            super().remove(filepath)
        else:
            self._to_remove.append(filepath)

    @contextmanager
    def removals_last(self) -> Iterator[None]:
        """Postpone removals to the end of the block; an error inside cancels them."""
        if self._to_remove is not None:  # nested, as in saving the best: the outer block removes
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


register_backend(_BACKEND, AtomicLocalBackend)


class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` with atomic writes: a complete checkpoint always remains.

    A checkpoint is written to a temporary file and synced before it gets its name. Only then is
    ``last_checkpoint`` updated and are old ones removed (``max_keep_ckpts``, ``save_best``). If it
    cannot be written (a full disk), the run logs an error, continues, and keeps its earlier
    checkpoints; at the end of training it stops with an error. On storage other than local files,
    atomicity depends on the backend.

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
        """Remove temporary files left by a killed run."""
        super().before_train(runner)
        if self._whole and runner.rank == 0 and Path(self.out_dir).is_dir():
            for unfinished in Path(self.out_dir).glob('.*.pth.part'):
                unfinished.unlink()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        with self._all_or_nothing(runner, f'checkpoint {self.filename_tmpl.format(step)}'):
            super()._save_checkpoint_with_step(runner, step, meta)
            if runner.rank == 0 and self.file_backend.exists(self._path(INTERRUPTED)):
                self.file_backend.remove(self._path(INTERRUPTED))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        with self._all_or_nothing(runner, 'best checkpoint'):
            super()._save_best_checkpoint(runner, metrics)

    def save_interrupted(self, runner: Runner, iteration: int) -> str:
        """Save the state after ``iteration`` iterations to ``interrupted.pth``; return its path.

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
            )
            if runner.rank == 0:
                write_text(Path(runner.work_dir) / LAST, path)
        except OSError as error:
            raise InputError(f'{path} cannot be written: {error}') from error
        return path

    def _path(self, name: str) -> str:
        return self.file_backend.join_path(self.out_dir, name)

    @contextmanager
    def _all_or_nothing(self, runner: Runner, what: str) -> Iterator[None]:
        """Undo what a failed save changed in this hook and the message hub."""
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
                    f'the {what}, the last one of the run, cannot be written: {error}. Earlier '
                    f'ones in {self.out_dir} are complete: free some space and use --resume'
                ) from error
            runner.logger.error(
                f'the {what} cannot be written: {error}. The run continues; its earlier '
                'checkpoints are complete'
            )
            for name, value in own.items():
                setattr(self, name, value)
            if self.max_keep_ckpts > 0:
                self.keep_ckpt_ids = deque(kept, self.max_keep_ckpts)
            if best:
                self.best_ckpt_path_dict = best
            runner.message_hub.runtime_info.clear()
            runner.message_hub.runtime_info.update(info)
