"""Builds a Runner from a config, on GPUs and CPUs, and runs it."""

import atexit
import logging
import re
from contextlib import contextmanager
from typing import Callable, Iterator, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.optim.scheduler.param_scheduler import LinearParamScheduler
from mmengine.runner import Runner

from lspt_mm.config.preflight import check_inputs
from lspt_mm.engine.hooks.prompt_init_hook import check_prepared_somewhere
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import check_writable
from lspt_mm.utils.safe_load import force_weights_only

#: Records that only a run's log file gets: its environment, config, hooks and parameters' options,
#: and what the stack says of itself, which no config of a user can change.
_FILE_ONLY = re.compile('|'.join((
    r'\n-+\nSystem environment:', r'Config:\n', r'Hooks will be executed', r'paramwise_options --',
    r'\S+ is skipped since its requires_grad=False', r'Exp name:',
    r'Distributed training is not used', r'The prefix is not set in metric class',
    r'"HardDiskBackend" is the alias', r'"FileClient" will be deprecated',
)))  # fmt: skip


class QuietRunner(Runner):
    """MMEngine's Runner; its console shows progress and results, its log file everything."""

    def build_logger(self, *args, **kwargs) -> MMLogger:  # noqa: D102
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_for_the_console)
        return logger


def _is_for_the_console(record: logging.LogRecord) -> bool:
    return not (record.levelno < logging.ERROR and _FILE_ONLY.match(record.getMessage()))


def build_runner(
    cfg: Config, loaders: Tuple[str, ...], checkpoint_read: bool = False
) -> Runner:
    """Check the inputs of a run, prepare the devices, and build the Runner.

    Arguments are those of :func:`~lspt_mm.config.preflight.check_inputs`.

    Raises:
        InputError: Naming everything that is missing, or a value that a class of the config
            rejects.
    """
    force_weights_only()
    check_inputs(cfg, loaders, checkpoint_read)
    folder = cfg.work_dir
    check_writable(folder, f'the work dir {folder}', '; name another: --work-dir FOLDER')
    if not torch.cuda.is_available():
        prepare_for_cpu(cfg)
    with _building():
        runner = QuietRunner.from_cfg(cfg)
    check_prepared_somewhere(runner)
    return runner


def run(runner: Runner, start: Callable) -> None:
    """Call ``runner.train`` or ``runner.test``.

    MMEngine builds loaders, optimizer and loops only then.

    Raises:
        InputError: For a value that one of them rejects, before the first hook of the run.
    """
    begin = _BeginHook()
    runner.register_hook(begin)
    with _building(begin):
        start()


class _BeginHook(Hook):
    """Knows whether everything is built and the run has begun; checks the schedules."""

    priority = 'HIGHEST'
    begun = False

    def before_train(self, runner: Runner) -> None:
        self.begun = True
        check_warm_up(runner.param_schedulers or [])

    def before_val(self, runner: Runner) -> None:
        self.begun = True

    before_test = before_val


@contextmanager
def _building(begin: Optional[_BeginHook] = None) -> Iterator[None]:
    """Raise InputError for what classes raise for arguments that they do not take."""
    try:
        yield
    except (TypeError, ValueError, KeyError, AssertionError, ZeroDivisionError) as error:
        if isinstance(error, InputError) or (begin is not None and begin.begun):
            raise
        kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
        raise InputError(f'the config cannot be built: {kind}{error}') from error


def check_warm_up(schedulers) -> None:
    """Raise InputError for a linear warm-up of one step, which MMEngine never finishes.

    Args:
        schedulers: A list, or with several optimizers a dict of lists.
    """
    if isinstance(schedulers, dict):
        schedulers = [one for several in schedulers.values() for one in several]
    for one in schedulers:
        if isinstance(one, LinearParamScheduler) and one.total_iters < 1:
            raise InputError(
                f'param_scheduler: {type(one).__name__} from {one.begin} to {one.end} is one '
                f'step long: the {one.param_name} would stay at {one.start_factor} of its '
                'value for the whole run. Give it two steps or more, or leave it out'
            )


def prepare_for_cpu(cfg: Config) -> None:
    """Adapt a config to a machine without a GPU: gloo between processes, BN for SyncBN.

    MMEngine would set CUDA devices for the processes, and SyncBN is for GPUs only: on CPUs each
    process normalises over its own samples.
    """
    if cfg.get('model') is not None:
        _replace_type(cfg.model, 'SyncBN', 'BN')
    if cfg.launcher == 'none':
        return
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
        # With an open group, gloo's threads sometimes abort the interpreter on exit.
        atexit.register(_close_process_group)
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,
        'broadcast_buffers': False,
    }


def _close_process_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _replace_type(node, old: str, new: str) -> None:
    if isinstance(node, dict):
        if node.get('type') == old:
            node['type'] = new
        for value in node.values():
            _replace_type(value, old, new)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _replace_type(value, old, new)
