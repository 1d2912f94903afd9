"""Stopping a run between two iterations when it is told to, and saying so."""

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

#: Exit code of a run that was told to stop and can be gone on with (sysexits' EX_TEMPFAIL).
EXIT_STOPPED = 75
#: Names a file that is made then as well: launchers have exit codes of their own.
STOPPED_FILE = 'LSPT_MM_STOPPED_FILE'
#: How long processes wait for the first one to have written the checkpoint.
_PATIENCE = timedelta(minutes=5)


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On SIGTERM or SIGINT save a checkpoint behind the current iteration and exit with code 75.

    Clusters send SIGTERM before they take a machine away. The checkpoint, ``interrupted.pth``, is
    gone on from by ``--resume``, exactly, and is removed when the next regular one is written. All
    processes of a distributed run stop behind the same iteration, whichever got the signal. A
    validation is broken off, and made up for by the resumed run. Where gradients are accumulated
    the run stops behind an optimizer's step. A second SIGINT ends the process at once.
    """

    priority = 'LOWEST'

    def __init__(self):
        self._told = False
        self._former = {}
        self._group = None
        self._asked = 0

    def before_train(self, runner: Runner) -> None:  # noqa: D102
        if runner.world_size > 1:
            # Asked on CPUs, so that no GPU has to be waited for.
            self._group = torch.distributed.new_group(backend='gloo')
        if threading.current_thread() is not threading.main_thread():
            runner.logger.warning('not in the main thread: signals do not stop this run in time')
            return
        for number in (signal.SIGTERM, signal.SIGINT):
            self._former[number] = signal.signal(number, self._tell)
        leaving = multiprocessing.RawValue('b', False)
        # Before multiprocessing ends the workers and waits for them.
        Finalize(None, _leave, args=(leaving,), exitpriority=1)
        for loop in (runner.train_loop, runner.val_loop):
            if loop is not None:
                loader = loop.dataloader
                loader.worker_init_fn = partial(_begin_worker, leaving, loader.worker_init_fn)

    def after_train(self, runner: Runner) -> None:  # noqa: D102
        while self._former:
            signal.signal(*self._former.popitem())

    def _tell(self, number: int, frame) -> None:
        if self._told and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._told = True

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # noqa: D102
        done = runner.iter + 1
        anyone = self._anyone_told()
        steps = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if anyone and done % steps == 0 and done < runner.max_iters:
            self._stop(runner, done)

    def before_val(self, runner: Runner) -> None:  # noqa: D102
        # Processes may have different numbers of batches; they are asked while all have some.
        self._asked = len(runner.val_dataloader)
        if self._group is not None:
            count = torch.tensor(self._asked)
            torch.distributed.all_reduce(count, torch.distributed.ReduceOp.MIN, group=self._group)
            self._asked = int(count)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # noqa: D102
        if batch_idx < self._asked and self._anyone_told():
            self._stop(runner, runner.iter)

    def _anyone_told(self) -> bool:
        if self._group is None:
            return self._told
        flag = torch.tensor(int(self._told))
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, group=self._group)
        return bool(flag)

    def _stop(self, runner: Runner, iteration: int) -> None:
        saver = next((h for h in runner.hooks if isinstance(h, AtomicCheckpointHook)), None)
        if saver is None:
            runner.logger.warning('told to stop; the config has no hook that saves a checkpoint')
        else:
            path = saver.save_interrupted(runner, iteration)
            runner.logger.warning(
                f'told to stop: saved {path} behind iteration {iteration}; go on with --resume'
            )
        if self._group is not None:
            self._wait_for_the_first()
        if os.environ.get(STOPPED_FILE) and int(os.environ.get('LOCAL_RANK', 0)) == 0:
            Path(os.environ[STOPPED_FILE]).touch()
        sys.exit(EXIT_STOPPED)

    def _wait_for_the_first(self) -> None:
        """Launchers end all processes as soon as one is gone: none is, before the file is there."""
        with suppress(RuntimeError):  # where another process is gone
            torch.distributed.barrier(group=self._group, async_op=True).wait(_PATIENCE)


def _begin_worker(leaving, init: Optional[Callable], worker: int) -> None:
    """Leave the run's end to the main process: what is sent to a job reaches its workers too.

    A worker ends on SIGTERM only when the main process is on its way out.
    """

    def end(number: int, frame) -> None:
        if leaving.value:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    if init is not None:
        init(worker)


def _leave(leaving) -> None:
    leaving.value = True
