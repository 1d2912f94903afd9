"""Saves a checkpoint and exits with code 75 on SIGTERM or SIGINT (preemption, requeue)."""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Callable, Optional

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from lspt_mm.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from lspt_mm.registry import HOOKS

#: Exit code of a stopped run that can be resumed (EX_TEMPFAIL of sysexits.h).
EXIT_STOPPED = 75
#: Environment variable: file to create on a stop, as launchers return their own exit codes.
STOPPED_FILE = 'LSPT_MM_STOPPED_FILE'
#: Batches of a validation after which processes exchange signals; they wait for each other.
_EVERY = 10
#: How long processes wait for the first one to write the checkpoint.
_TIMEOUT = timedelta(minutes=5)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On SIGTERM or SIGINT, saves a checkpoint after the current iteration and exits with code 75.

    Clusters send SIGTERM before they preempt a job. ``--resume`` continues exactly from the
    checkpoint, ``interrupted.pth``, which the next regular one replaces. All processes of a
    distributed run stop after the same iteration, whichever got the signal. A validation is
    aborted; the resumed run repeats it. With gradient accumulation, the run stops after a step of
    the optimizer. A second SIGINT ends the process at once.
    """

    priority = 'LOWEST'

    def __init__(self):
        self._stopping = False
        self._former = {}
        self._group = None
        self._shared_batches = 0

    def before_train(self, runner: Runner) -> None:  # noqa: D102
        if runner.world_size > 1:
            # On CPUs, so that no process waits for a GPU.
            self._group = torch.distributed.new_group(backend='gloo')
            # With an open group, gloo's threads sometimes abort the interpreter on exit.
            atexit.register(_close, self._group)
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning('not in the main thread: this run ignores SIGTERM and SIGINT')
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            self._former[number] = signal.signal(number, self._on_signal)
        exiting = multiprocessing.RawValue('b', False)
        # Before multiprocessing ends the workers and waits for them.
        Finalize(None, _mark_exiting, args=(exiting,), exitpriority=1)
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None:
                loader = loop.dataloader
                loader.worker_init_fn = partial(_init_worker, exiting, loader.worker_init_fn)

    def after_train(self, runner: Runner) -> None:  # noqa: D102
        self.restore_handlers()

    def restore_handlers(self) -> None:
        """Set the signal handlers that were there before the run."""
        while self._former:
            signal.signal(*self._former.popitem())

    def _on_signal(self, number: int, frame) -> None:
        if self._stopping and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._stopping = True

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # noqa: D102
        done = runner.iter + 1
        stopping = self._any_stopping()
        steps = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if stopping and done % steps == 0 and done < runner.max_iters:
            self._stop(runner, done)

    def before_val(self, runner: Runner) -> None:  # noqa: D102
        # Processes may have different numbers of batches: they synchronise while all have some.
        self._shared_batches = len(runner.val_dataloader)
        if self._group is not None:
            count = torch.tensor(self._shared_batches)
            torch.distributed.all_reduce(count, torch.distributed.ReduceOp.MIN, group=self._group)
            self._shared_batches = int(count)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # noqa: D102
        exchanges = self._group is None or batch_idx % _EVERY == 0
        if exchanges and batch_idx < self._shared_batches and self._any_stopping():
            self._stop(runner, runner.iter)

    def _any_stopping(self) -> bool:
        if self._group is None:
            return self._stopping
        flag = torch.tensor(int(self._stopping))
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, group=self._group)
        return bool(flag)

    def _stop(self, runner: Runner, iteration: int) -> None:
        saver = next((h for h in runner.hooks if isinstance(h, AtomicCheckpointHook)), None)
        if saver is None:
            runner.logger.warning('stopped by a signal; no hook of the config saves a checkpoint')
        else:
            path = saver.save_interrupted(runner, iteration)
            runner.logger.warning(
                f'stopped by a signal: saved {path} after iteration {iteration}; use --resume'
            )
        if self._group is not None:
            self._wait_for_main()
        if os.environ.get(STOPPED_FILE) and int(os.environ.get('LOCAL_RANK', 0)) == 0:
            Path(os.environ[STOPPED_FILE]).touch()
        sys.exit(EXIT_STOPPED)

    def _wait_for_main(self) -> None:
        """Wait for the checkpoint: launchers end all processes as soon as one exits."""
        with suppress(RuntimeError):  # another process has exited
            torch.distributed.barrier(group=self._group, async_op=True).wait(_TIMEOUT)


def _close(group) -> None:
    with suppress(ValueError):  # the run's script has closed all of them
        torch.distributed.destroy_process_group(group)


def _init_worker(exiting, init: Optional[Callable], worker: int) -> None:
    """Leave signals to the main process: those sent to a job reach its loader workers too.

    A worker ends on SIGTERM only when the main process is exiting.
    """

    def end(number: int, frame) -> None:
        if exiting.value:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    if init is not None:
        init(worker)


def _mark_exiting(exiting) -> None:
    exiting.value = True
