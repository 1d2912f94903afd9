"""What ``tools/train.py`` and ``tools/test.py`` share: from a command line to a Runner."""

import atexit
from typing import Callable, Tuple

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim.scheduler.param_scheduler import LinearParamScheduler
from mmengine.runner import Runner

from lspt_mm.config.preflight import check_inputs
from lspt_mm.engine.hooks.prompt_init_hook import check_prepared_somewhere
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import check_writable
from lspt_mm.utils.safe_load import force_weights_only

#: What classes raise for arguments they cannot take.
_OF_BUILDING = (TypeError, ValueError, KeyError, AssertionError, ZeroDivisionError)
















def build_runner(cfg: Config, loaders: Tuple[str, ...]) -> Runner:
    """Check what the run needs, prepare the devices there are, and build the Runner.

    Raises:
        InputError: For everything that is missing, all at once; and for a value that a class of
            the config refuses.
    """
    force_weights_only()
    check_inputs(cfg, loaders)
    check_work_dir(cfg.work_dir)
    if not torch.cuda.is_available():
        prepare_for_cpu(cfg)
    try:
        runner = Runner.from_cfg(cfg)
    except _OF_BUILDING as error:
        raise InputError(f'the config cannot be built: {_told(error)}') from error
    check_prepared_somewhere(runner)
    return runner


def check_work_dir(path: str) -> None:
    """Raise InputError if nothing can be written to the work dir, which is made."""
    check_writable(path, f'the work dir {path}', '; name another: --work-dir FOLDER')




def run(runner: Runner, start: Callable) -> None:
    """Call ``runner.train`` or ``runner.test``.

    MMEngine builds loaders, optimizer and loops only then.

    Raises:
        InputError: For a value that one of them refuses, before the first hook of the run.
    """
    begun = _Begun()
    runner.register_hook(begun)
    runner.register_hook(_RampsEnd())
    try:
        start()
    except InputError:
        raise
    except _OF_BUILDING as error:
        if begun.yes:
            raise
        raise InputError(f'the config cannot be built: {_told(error)}') from error


class _Begun(Hook):
    """Knows whether the run has come to its hooks, so that all of it is built."""

    priority = 'HIGHEST'
    yes = False

    def before_train(self, runner) -> None:
        """Everything is built."""
        self.yes = True

    before_val = before_test = before_train


class _RampsEnd(Hook):
    """Refuses a warm-up of a single step, which MMEngine never takes to its end."""

    priority = 'HIGHEST'

    def before_train(self, runner) -> None:
        schedulers = runner.param_schedulers or []
        if isinstance(schedulers, dict):  # of several optimizers
            schedulers = [one for several in schedulers.values() for one in several]
        for one in schedulers:
            if isinstance(one, LinearParamScheduler) and one.total_iters < 1:
                raise InputError(
                    f'param_scheduler: {type(one).__name__} from {one.begin} to {one.end} is one '
                    f'step long: the {one.param_name} would stay at {one.start_factor} of its '
                    'value for the whole run. Give it two steps or more, or leave it out'
                )


def _told(error: Exception) -> str:
    """An error's message, with its kind where the message alone says little."""
    return str(error) if isinstance(error, ValueError) else f'{type(error).__name__}: {error}'


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
        # Left open, gloo's threads now and then abort the interpreter on its way out.
        atexit.register(close_process_group)
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,
        'broadcast_buffers': False,
    }


def close_process_group() -> None:
    """Close the default process group, if one is open."""
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




