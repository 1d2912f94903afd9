"""Reads a config file or name and applies command-line options to it."""

import argparse
import os
from pathlib import Path
from typing import Optional, Union

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from lspt_mm.config.arguments import pass_arguments, split_arguments
from lspt_mm.config.cfg_options import merge_options
from lspt_mm.config.paths import config_names, config_path, similar_names
from lspt_mm.config.preflight import datasets_of
from lspt_mm.errors import InputError
from lspt_mm.registry import takes_prompts
from lspt_mm.utils.images import BACKEND
from lspt_mm.utils.installed import EXTRAS, require

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the common options to it."""
    if args.launcher == 'slurm':  # MMEngine sets them when it opens the process group
        os.environ['RANK'] = os.environ.get('SLURM_PROCID', '0')
        os.environ['LOCAL_RANK'] = os.environ.get('SLURM_LOCALID', '0')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config)
    apply_common_options(cfg, args.cfg_options, args.data_root)
    cfg.launcher = args.launcher
    if args.work_dir:
        cfg.work_dir = args.work_dir
    else:
        cfg.work_dir = work_dir_of(cfg, args.config)
    return cfg


def work_dir_of(cfg: Config, name: str) -> str:
    """The config's work dir; by default it is named after the config."""
    return cfg.get('work_dir') or str(Path('work_dirs') / Path(name).stem)


def apply_common_options(cfg: Config, options: Optional[dict], data_root: Optional[str]) -> None:
    """Apply ``--cfg-options`` and ``--data-root``.

    Raises:
        InputError: If the config's package (mmseg) is not installed, or an option does not fit.
    """
    scope = cfg.get('default_scope', 'mmengine')
    if scope in EXTRAS:
        require(scope)
    init_default_scope(scope)
    merge_options(cfg, options)
    if data_root:
        rooted = [dataset for dataset in datasets_of(cfg, _LOADERS) if 'data_root' in dataset]
        if not rooted:
            raise InputError(f'--data-root {data_root}: no data set of this config has a data_root')
        for dataset in rooted:
            dataset['data_root'] = data_root


def choose_weights(cfg: Config, pretrained: Optional[str], random: bool) -> None:
    """Apply ``--pretrained`` or ``--random-backbone``."""
    if pretrained or random:
        cfg.model.backbone.update(pretrained=pretrained, init_cfg=None)
    if random:
        hooks = [hook for hook in cfg.get('custom_hooks') or []
                 if 'BackboneWeightsHook' not in str(hook['type'])]
        cfg.custom_hooks = [*hooks, {'type': 'lspt_mm.BackboneWeightsHook', 'allow_random': True}]


def turn_on_amp(cfg: Config) -> None:
    """``--amp``: bfloat16, or float16 on GPUs without it.

    Raises:
        InputError: If the config's wrapper of the optimizer is another one than MMEngine's.
    """
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    name = kind if isinstance(kind, str) else kind.__name__
    if name.split('.')[-1] == 'Bf16OptimWrapper':
        return
    if name.split('.')[-1] not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise InputError(
            f'--amp: optim_wrapper.type is {name}, which decides on the precision itself; expected '
            'OptimWrapper or AmpOptimWrapper'
        )
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.loss_scale = 'dynamic'
    else:
        cfg.optim_wrapper.type = 'lspt_mm.Bf16OptimWrapper'
        cfg.optim_wrapper.pop('loss_scale', None)


def turn_on_compile(cfg: Config) -> None:
    """``--compile``: compile the blocks of the config's backbone.

    Raises:
        InputError: If the backbone is not of this package.
    """
    backbone = cfg.model.get('backbone') or {}
    if not takes_prompts(backbone):
        raise InputError(
            f'--compile: the backbone is {backbone.get("type")!r}; only the blocks of '
            'lspt_mm.PromptedViT can be compiled'
        )
    backbone.compile_blocks = True


def read_config(name: str, more: Optional[dict] = None) -> Config:
    """Read the config of a file, ``FILE:name=value,...`` or a benchmark experiment's name.

    Existing files take precedence. Otherwise FILE is the name of one of this package's configs,
    such as ``lspt_upernet_ade20k``. ``more`` are further arguments.
    """
    path, values = split_arguments(name)
    values.update(more or {})
    if Path(path).is_dir():
        inside = ', '.join(sorted(str(file) for file in Path(path).glob('*.py'))) or 'none'
        raise InputError(f'config {path}: a folder, expected a config file; those in it: {inside}')
    if not Path(path).is_file():
        path = _of_this_package(path)
    try:
        with pass_arguments(values):
            return read_config_file(path)
    except Exception as error:  # the config's code may raise any type
        known = isinstance(error, InputError)
        where = f'config {name}' if known else f'config file {path} cannot be read'
        raise InputError(f'{where}: {error}') from error


def read_config_file(path: Union[str, Path]) -> Config:
    """Read a file by MMEngine's ``Config.fromfile``; set how images are loaded.

    They are read by :func:`lspt_mm.utils.images.read_image` unless the config sets
    ``backend_args``. If it is the config of a run, beside its checkpoints, data that lay in the
    run's folder are read from where the folder is now.
    """
    cfg = Config.fromfile(path)
    nodes = [cfg._cfg_dict]
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            kind = node.get('type')  # a name, perhaps with a scope, or a class
            name = getattr(kind, '__name__', str(kind)).split('.')[-1]
            if name == 'LoadImageFromFile' and not node.get('backend_args'):
                node['backend_args'] = {'backend': BACKEND}
            nodes += node.values()
        elif isinstance(node, (list, tuple)):
            nodes += node
    folder, work_dir = Path(path).parent, cfg.get('work_dir')
    if work_dir and (folder / 'last_checkpoint').is_file():
        for dataset in datasets_of(cfg, _LOADERS):
            root = dataset.get('data_root')
            if root and Path(root).is_relative_to(work_dir):
                inside = folder / Path(root).relative_to(work_dir)
                if inside.is_dir():
                    dataset['data_root'] = str(inside)
    return cfg


def _of_this_package(name: str) -> str:
    """Path of this package's config ``name``; a leading ``configs/`` is ignored."""
    ours = Path(name).as_posix().removeprefix('configs/').removesuffix('.py')
    if ours in config_names():
        return str(config_path(ours))
    close = similar_names(ours)
    hint = f'. The package has: {", ".join(close)}' if close else ''
    if not name.endswith('.py'):
        hint += (
            '. The name of an experiment is BENCHMARK/METHOD_PRETRAINING_TASK, such as '
            'vtab1k/lspt_mae_eurosat or fgvc/vpt-deep_mocov3_cub'
        )
    raise InputError(f'config file {name} does not exist{hint}')
