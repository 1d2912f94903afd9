"""What ``tools/train.py`` and ``tools/test.py`` share: from a command line to a Runner."""

import argparse
import atexit
import os
import sys
import tempfile
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, Optional, Tuple

import torch
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.optim.scheduler.param_scheduler import LinearParamScheduler
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from lspt_mm.configs_path import config_path
from lspt_mm.engine.config_arguments import given, split_arguments
from lspt_mm.engine.options import merge_options
from lspt_mm.engine.preflight import check_inputs, datasets_of
from lspt_mm.engine.prepare import check_prepared_somewhere
from lspt_mm.errors import InputError
from lspt_mm.plain_checkpoints import refuse_executable_checkpoints

#: Exit code for an error of the user's input (argparse's own code for a bad option).
EXIT_INPUT = 2

#: What classes raise for arguments they cannot take.
_OF_BUILDING = (TypeError, ValueError, KeyError, AssertionError, ZeroDivisionError)


class KeyValueAction(DictAction):
    """MMEngine's ``DictAction`` that says which option is not of the form KEY=VALUE."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Parse KEY=VALUE pairs."""
        for value in values:
            if '=' not in value:
                parser.error(f'argument {option_string}: {value!r} is not of the form KEY=VALUE')
        super().__call__(parser, namespace, values, option_string)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that training and testing have in common."""
    parser.add_argument(
        'config', help='config file, or the name of one in this package; FILE:name=value,... for '
        'one that takes arguments; or the name of a cell such as vtab1k/lspt_mae_eurosat',
    )  # fmt: skip
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument('--data-root', help="folder of the data, instead of the config's")
    parser.add_argument(
        '--cfg-options', nargs='+', action=KeyValueAction, metavar='KEY=VALUE',
        help="change values of the config, e.g. train_cfg.max_iters=100 or key='[a,b]'",
    )  # fmt: skip
    parser.add_argument(
        '--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none',
        help='job launcher; dist_train.sh and slurm_train.sh set it',
    )  # fmt: skip
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument('--debug', action='store_true', help='show tracebacks of input errors')


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the common options to it."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config)
    apply_common_options(cfg, args.cfg_options, args.data_root)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def apply_common_options(cfg: Config, options: Optional[dict], data_root: Optional[str]) -> None:
    """Apply ``--cfg-options`` and ``--data-root``."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    merge_options(cfg, options)
    if data_root:
        for dataset in datasets_of(cfg, ('train_dataloader', 'val_dataloader', 'test_dataloader')):
            if 'data_root' in dataset:
                dataset['data_root'] = data_root


def choose_weights(cfg: Config, pretrained: Optional[str], random: bool) -> None:
    """Apply ``--pretrained`` or ``--random-backbone``."""
    if pretrained or random:
        cfg.model.backbone.pretrained = pretrained
    if random:
        hooks = [h for h in cfg.get('custom_hooks') or [] if 'BackboneWeights' not in h['type']]
        cfg.custom_hooks = [*hooks, {'type': 'lspt_mm.BackboneWeightsHook', 'allow_random': True}]


def read_config(name: str, more: Optional[dict] = None) -> Config:
    """The config of a file, ``FILE:name=value,...``, or the name of a benchmark's cell.

    A file in the current folder comes first; where there is none, FILE is the name of one of this
    package's configs, such as ``lspt_upernet_ade20k``. ``more`` are further arguments.
    """
    path, values = split_arguments(name)
    values.update(more or {})
    if Path(path).is_dir():
        inside = ', '.join(sorted(str(file) for file in Path(path).glob('*.py'))) or 'none'
        raise InputError(f'config {path}: a folder, expected a config file; those in it: {inside}')
    if not Path(path).is_file():
        path = _of_this_package(path)
    try:
        with given(values):
            return Config.fromfile(path)
    except InputError as error:
        raise InputError(f'config {name}: {error}') from error
    except Exception as error:  # whatever the file's own code raises
        raise InputError(f'config file {path} cannot be read: {error}') from error


def _of_this_package(name: str) -> str:
    """Path of the package's config ``name``, which may begin with ``configs/`` as in a checkout."""
    try:
        return str(config_path(Path(name).as_posix().removeprefix('configs/')))
    except InputError as error:
        _, _, close = str(error).partition('close matches: ')
        hint = f'. The package has: {close}' if close else ''
        if not name.endswith('.py'):
            hint += (
                '. The name of a cell is BENCHMARK/METHOD_PRETRAINING_TASK, such as '
                'vtab1k/lspt_mae_eurosat or fgvc/vpt-deep_mocov3_cub'
            )
        raise InputError(f'config file {name} does not exist{hint}') from error


def build_runner(cfg: Config, loaders: Tuple[str, ...]) -> Runner:
    """Check what the run needs, prepare the devices there are, and build the Runner.

    Raises:
        InputError: For everything that is missing, all at once; and for a value that a class of
            the config refuses.
    """
    refuse_executable_checkpoints()
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


def check_writable(folder, what: str, advice: str = '') -> None:
    """Raise InputError, with ``what`` and ``advice``, if nothing can be written to ``folder``.

    It is made.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f'{what} cannot be written: {error}{advice}') from error


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


@contextmanager
def input_errors_as_messages(debug: bool = False) -> Iterator[None]:
    """End the program with code 2 and the message alone when the input is at fault.

    Of several processes the first to fail tells it, whichever that is.
    """
    try:
        yield
    except InputError as error:
        if debug:
            traceback.print_exc()
        # From a loader's worker process the message comes wrapped in its traceback.
        message = str(error).split(f'{InputError.__name__}: ')[-1].strip()
        rank = int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0)))
        if debug or _is_first_to_fail():
            who = f' (process {rank})' if rank else ''
            print(f'error{who}: {message}', file=sys.stderr, flush=True)
        sys.exit(EXIT_INPUT)


def _is_first_to_fail() -> bool:
    """Whether no other process of this run has told of an error."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        try:
            store = torch.distributed.distributed_c10d._get_default_store()
            return store.add('lspt_mm/failed', 1) == 1
        except RuntimeError:  # the process that kept it is gone
            return True
    # What fails before processes know each other fails alike on a machine.
    return all(int(os.environ.get(name, 0)) == 0 for name in ('LOCAL_RANK', 'SLURM_LOCALID'))
