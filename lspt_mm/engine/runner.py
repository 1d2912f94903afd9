"""Builds a Runner from a config and runs it, on GPUs and CPUs."""

import atexit
import json
import logging
import os
import re
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

import mmengine.device.utils
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.optim.scheduler.param_scheduler import LinearParamScheduler
from mmengine.runner import Runner
from torch import nn

from lspt_mm.config.preflight import check_inputs
from lspt_mm.engine.hooks.backbone_weights_hook import BackboneWeightsHook
from lspt_mm.engine.hooks.preemption_hook import PreemptionHook
from lspt_mm.engine.hooks.prompt_init_hook import check_prepared_somewhere
from lspt_mm.engine.hooks.prompter_hook import add_prompter_hook
from lspt_mm.engine.work_dir import LAST, lock_work_dir, set_aside
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import check_writable
from lspt_mm.utils.safe_load import force_weights_only

#: Records for the log file only: environment, config, hooks and parameters' options, and messages
#: of the libraries that a user's config cannot change.
_FILE_ONLY = re.compile('|'.join((
    r'\n-+\nSystem environment:', r'Config:\n', r'Hooks will be executed', r'paramwise_options --',
    r'\S+ is skipped since its requires_grad=False', r'Exp name:',
    r'Distributed training is not used', r'The prefix is not set in metric class',
    r'"HardDiskBackend" is the alias', r'"FileClient" will be deprecated',
)))


#: Where checkpoints keep the settings of the optimizer's wrapper, and those of the data and the
#: model: in the message hub.
_WRAPPER, _RUN = 'optim_wrapper', 'run_settings'
#: Keys of the data and the model that may differ on resume: how images are loaded, where data and
#: weights lie (checkpoints have a record of the ViT), what costs time or memory alone, the test.
_FREE = {
    'num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'timeout',
    'multiprocessing_context', 'backend_args', 'data_root', 'pretrained', 'init_cfg', 'with_cp',
    'compile_blocks', 'test_cfg',
}
#: State of schedules that changes in a run or follows from the optimizer.
_STATE_OF_SCHEDULES = {'last_step', 'base_values', 'total_iters', 'verbose'}


class QuietRunner(Runner):
    """MMEngine's Runner with a console limited to progress and results; the log file has all."""

    def register_default_hooks(self, hooks=None) -> None:
        """As MMEngine's, but None removes any hook, not only MMEngine's own defaults."""
        own = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')
        super().register_default_hooks({
            name: hook for name, hook in (hooks or {}).items() if hook is not None or name in own
        })

    def build_logger(self, *args, **kwargs) -> MMLogger:  # noqa: D102
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_for_the_console)
        return logger

    def dump_config(self) -> None:
        """Nothing yet: a run that is refused must not replace the config of a finished one.

        MMEngine's constructor calls this. :func:`run` writes the config when the run starts.
        """

    def resume(self, filename: str, *args, **kwargs) -> None:
        """As MMEngine's, which takes optimizer, schedules and seed from the checkpoint.

        Raises:
            InputError: If the settings of this run differ. They would have no effect; precision,
                clipping, accumulation, data and model would change in the middle of the run.
        """
        asked, seed = _settings(self), self._randomness_cfg.get('seed')
        super().resume(filename, *args, **kwargs)
        steps_to_cpu(self.optim_wrapper.optimizer)
        found = _settings(self)
        for name, settings in ((_WRAPPER, _wrapper_settings), (_RUN, _run_settings)):
            saved = self.message_hub.runtime_info.get(name)  # None of older checkpoints
            if saved is not None:
                asked.update(settings(self))
                found.update(saved)
        if seed is not None:  # otherwise MMEngine drew one at random
            asked['randomness.seed'], found['randomness.seed'] = seed, self.seed
        keys = [key for key in {**asked, **found} if asked.get(key) != found.get(key)]
        changed = list(dict.fromkeys(  # groups of parameters have the same
            f'{key.split("/")[-1]} is {str(found.get(key)):.80} there, '
            f'{str(asked.get(key)):.80} here'
            for key in sorted(keys, key=lambda key: (key.count('.'), key))
        ))
        if changed:
            more = f'; ... ({len(changed)} in all)' if len(changed) > 8 else ''
            raise InputError(
                f'--resume {filename}: the run of this checkpoint has other settings: '
                f'{"; ".join(changed[:8])}{more}. Resume with the settings of that run (its config '
                'is in the work dir), or start a new run from its weights: --cfg-options '
                f'load_from={filename}'
            )


def steps_to_cpu(optimizer: torch.optim.Optimizer) -> None:
    """Move AdamW's step counters from the GPU, where each read waits for it, to the CPU.

    New ones are there; those of a checkpoint are on the device that it is loaded to.
    """
    for group in optimizer.param_groups:
        if group.get('fused') or group.get('capturable'):
            continue
        for parameter in group['params']:
            state = optimizer.state.get(parameter, {})
            if torch.is_tensor(state.get('step')):
                state['step'] = state['step'].cpu()


def _settings(runner: Runner) -> Dict[str, Any]:
    """Options of the optimizer and schedules, which a checkpoint replaces on resume."""
    schedulers = runner.param_schedulers or []
    moved = {one.param_name for one in schedulers}
    found: Dict[str, Any] = {}
    for i, group in enumerate(runner.optim_wrapper.optimizer.param_groups):
        for key, value in group.items():
            if key not in ('params', *moved) and isinstance(value, (int, float, str, tuple)):
                found[f'{i}/{key.replace("initial_", "")}'] = value
    for i, one in enumerate(schedulers):
        found.update({
            f'schedule/{i}/{type(one).__name__}.{key}': value
            for key, value in one.state_dict().items()
            if key not in _STATE_OF_SCHEDULES and key[0] != '_'
        })
    return found


def _wrapper_settings(runner: Runner) -> Dict[str, Any]:
    """Precision, clipping and accumulation, which a checkpoint does not replace on resume."""
    wrapper = runner.optim_wrapper
    return {
        '/optim_wrapper.type': type(wrapper).__name__,
        # Plain data: checkpoints hold nothing else.
        '/optim_wrapper.clip_grad': dict(wrapper.clip_grad_kwargs or {}),
        '/optim_wrapper.accumulative_counts': wrapper._accumulative_counts,
    }


def _config_settings(path: str, node: Any) -> Iterator[Tuple[str, str]]:
    """Dotted keys and texts of the values of a config that decide what is trained, and on what."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key not in _FREE:
                yield from _config_settings(f'{path}.{key}', value)
    elif isinstance(node, (list, tuple)) and any(isinstance(one, dict) for one in node):
        for i, value in enumerate(node):
            yield from _config_settings(f'{path}.{i}', value)
    elif isinstance(node, str) or hasattr(node, '__qualname__'):
        text = getattr(node, '__qualname__', node)
        text = os.path.basename(text) if os.path.isabs(text) else text  # data may be moved
        if path.endswith('.type'):  # a class may be named with or without its module
            text = text.rpartition('.')[2].replace('SyncBN', 'BN')  # as on CPUs
        yield path, text
    else:
        yield path, json.dumps(node, default=str)  # one text for a list and for a tuple


def _run_settings(runner: Runner) -> Dict[str, str]:
    """The training data and the model of the config."""
    return {key: value for name in ('train_dataloader', 'model')
            for key, value in _config_settings(name, runner.cfg.get(name))}


def _is_for_the_console(record: logging.LogRecord) -> bool:
    return not (record.levelno < logging.ERROR and _FILE_ONLY.match(record.getMessage()))


def build_runner(
    cfg: Config, loaders: Tuple[str, ...], checkpoint_read: bool = False
) -> Runner:
    """Check the inputs of a run, prepare the devices, and build the Runner.

    Arguments are those of :func:`~lspt_mm.config.preflight.check_inputs`.

    Raises:
        InputError: For missing inputs (all are listed), or a value that a class of the config
            rejects.
    """
    force_weights_only()
    check_inputs(cfg, loaders, checkpoint_read)
    folder = cfg.work_dir
    check_writable(folder, f'the work dir {folder}', '; name another: --work-dir FOLDER')
    if not torch.cuda.is_available():
        prepare_for_cpu(cfg)
    for name in loaders:  # what is loaded does not depend on the workers
        if cfg[name].get('num_workers'):
            cfg[name].num_workers = min(cfg[name].num_workers, os.cpu_count() or 1)
    trains = 'train_dataloader' in loaders
    lock = lock_work_dir(folder) if trains else None  # until run() ends, or this fails
    try:
        with _building():
            runner = QuietRunner.from_cfg(cfg)
        if not any(isinstance(hook, BackboneWeightsHook) for hook in runner.hooks):
            runner.register_hook(BackboneWeightsHook())  # custom_hooks of a config replace ours
        if trains:
            check_batch_norm(runner.model, cfg, runner.world_size)
            add_prompter_hook(runner)
        check_prepared_somewhere(runner)
    except BaseException:  # an interactive shell keeps the error, and with it the lock
        if lock is not None:
            lock.release()
        raise
    runner.work_dir_lock = lock
    return runner


def run(runner: Runner, start: Callable) -> None:
    """Call ``runner.train`` or ``runner.test``.

    Only this call builds MMEngine's loaders, optimizer and loops.

    Raises:
        InputError: For a value that one of them rejects, before the first hook of the run.
    """
    begin = _BeginHook()
    runner.register_hook(begin)
    runner.register_hook(_ConfigHook())
    try:
        with _building(begin):
            start()
    except SystemExit:  # a preempted process ignores further signals until it ends
        raise
    except BaseException:
        for hook in runner.hooks:
            if isinstance(hook, PreemptionHook):
                hook.restore_handlers()
        raise
    finally:
        if runner.work_dir_lock is not None:
            runner.work_dir_lock.release()


class _BeginHook(Hook):
    """Records that everything is built and the run has started; checks the schedules."""

    priority = 'HIGHEST'
    begun = False

    def before_train(self, runner: Runner) -> None:
        self.begun = True
        runner.message_hub.update_info(_WRAPPER, _wrapper_settings(runner))
        runner.message_hub.update_info(_RUN, _run_settings(runner))
        check_warm_up(runner.param_schedulers or [])
        check_ends(runner.param_schedulers or [], runner)

    def before_test(self, runner: Runner) -> None:
        self.begun = True


class _ConfigHook(Hook):
    """Writes the config into the work dir once no hook has refused the run."""

    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        if not runner._resume and runner.rank == 0:
            set_aside(runner.work_dir)
        Runner.dump_config(runner)

    def before_test(self, runner: Runner) -> None:
        if not Path(runner.work_dir, LAST).is_file():  # keep the config of a training
            Runner.dump_config(runner)


@contextmanager
def _building(begin: Optional[_BeginHook] = None) -> Iterator[None]:
    """Convert errors that classes raise for wrong arguments to InputError."""
    try:
        yield
    except (TypeError, ValueError, KeyError, AssertionError, ZeroDivisionError) as error:
        if isinstance(error, InputError) or (begin is not None and begin.begun):
            raise
        kind = '' if isinstance(error, ValueError) else f'{type(error).__name__}: '
        raise InputError(f'the config cannot be built: {kind}{error}') from error


def check_warm_up(schedulers) -> None:
    """Raise InputError for a linear warm-up of one step, which MMEngine never finishes."""
    for one in schedulers:
        if isinstance(one, LinearParamScheduler) and one.total_iters < 1:
            raise InputError(
                f'param_scheduler: {type(one).__name__} from {one.begin} to {one.end} is one '
                f'step long: the {one.param_name} would stay at {one.start_factor} of its '
                'value for the whole run. Give it two steps or more, or leave it out'
            )


def check_ends(schedulers, runner: Runner) -> None:
    """Raise InputError for a learning rate that is 0 long before the end of the run."""
    last = max((one for one in schedulers if one.param_name == 'lr'), key=lambda one: one.end,
               default=None)
    if last is None or getattr(last, 'eta_min', None) != 0:
        return
    length = runner.max_epochs if last.by_epoch else runner.max_iters
    if last.end < length - 1:
        raise InputError(
            f'param_scheduler: {type(last).__name__} ends with a learning rate of 0 at '
            f'{last.end} of {length} {"epochs" if last.by_epoch else "iterations"}. Let it end '
            'where the run does (param_scheduler.N.end), or give it an eta_min'
        )


def check_batch_norm(model: nn.Module, cfg: Config, processes: int) -> None:
    """Raise InputError for one image per process if batch norm follows pooling to one pixel."""
    batch = (cfg.get('train_dataloader') or {}).get('batch_size')
    pools = any(
        isinstance(m, nn.AdaptiveAvgPool2d) and m.output_size in (1, (1, 1))
        for m in model.modules()
    )
    alone = any(  # MMEngine has a type of its own for SyncBN on a single GPU
        isinstance(m, nn.modules.batchnorm._BatchNorm)
        and not (processes > 1 and isinstance(m, nn.SyncBatchNorm))
        for m in model.modules()
    )
    if batch == 1 and pools and alone:
        raise InputError(
            'train_dataloader.batch_size=1: batch normalisation of a map pooled to one pixel '
            'needs two images per process; use batch_size=2 or more'
        )


def prepare_for_cpu(cfg: Config) -> None:
    """Adapt a config to a machine without a CUDA GPU: gloo between processes, BN for SyncBN.

    MMEngine would set CUDA devices for the processes. SyncBN is for GPUs only: on CPUs, each
    process normalises over its own samples.

    Raises:
        InputError: For SLURM's launcher, which needs GPUs.
    """
    if torch.backends.mps.is_available():
        # MMEngine would train on MPS, which has neither float64 nor MMEngine's autocast.
        mmengine.device.utils.DEVICE = 'cpu'
    if cfg.get('model') is not None:
        _replace_type(cfg.model, 'SyncBN', 'BN')
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none':
        return
    if launcher == 'slurm':
        raise InputError(
            '--launcher slurm: this machine has no GPU; start the processes by tools/dist_train.sh'
        )
    if not torch.distributed.is_initialized():
        timeout = ((cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout')
        torch.distributed.init_process_group(
            'gloo', timeout=None if timeout is None else timedelta(seconds=timeout)
        )
        # With an open group, gloo's threads sometimes abort the interpreter on exit.
        atexit.register(_close_process_group)
    cfg.setdefault('model_wrapper_cfg', {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    })


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
