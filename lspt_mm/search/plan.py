"""Configs of a search's runs, each with only the data that it may use."""

import copy
from typing import Any, Callable, Dict, Iterable, List, Mapping, Sequence

from mmengine.config import Config, ConfigDict

from lspt_mm.config.preflight import allows_random
from lspt_mm.errors import InputError
from lspt_mm.tasks import task_of

#: Config keys of the test and the validation data.
_OF_TEST = ('test_dataloader', 'test_cfg', 'test_evaluator')
_OF_VAL = ('val_dataloader', 'val_cfg', 'val_evaluator')
#: Keys of a data set that do not affect which images it has.
_HOW = ('pipeline', 'test_mode', 'metainfo', 'lazy_init', 'serialize_data')


def selection_config(cfg: Config, seed: int) -> Config:
    """Train on the training data, validate; the config does not even name the test data.

    Raises:
        InputError: If the config has no validation data, or lacks the task's metric of them.
    """
    if cfg.get('val_dataloader') is None:
        raise InputError('the config has no val_dataloader to select on')
    _check_metric(cfg, 'val_evaluator')
    cfg = copy.deepcopy(cfg)
    for key in _OF_TEST:
        cfg[key] = None
    _hooks(cfg)['checkpoint'] = None  # these runs are never resumed
    return _common(cfg, seed)


def usual_final_on(cfg: Config) -> str:
    """What the final runs are trained on: for FGVC train alone, as in VPT's and GaPT's code."""
    benchmark = (cfg.get('experiment') or {}).get('benchmark')
    return 'train' if benchmark == 'fgvc' else 'train+val'


def final_config(cfg: Config, seed: int, on: str = 'train+val') -> Config:
    """Train on training and validation data together (or on the former alone), then test.

    ``cfg.final`` is merged into the config where it has one (VTAB-1K's list of both); otherwise
    the two data sets are concatenated, both with the training pipeline.

    Raises:
        InputError: If the config has no test data, if they are the validation data, or if the
            task's metric is not measured on them.
    """
    if cfg.get('test_dataloader') is None:
        raise InputError('the config has no test_dataloader')
    if on not in ('train+val', 'train'):
        raise InputError(f"on={on!r}: expected 'train+val' or 'train'")
    _check_metric(cfg, 'test_evaluator')
    _check_test_is_apart(cfg)
    cfg = copy.deepcopy(cfg)
    if on == 'train+val':
        if cfg.get('final'):
            cfg.merge_from_dict(cfg.final)
        else:
            cfg.train_dataloader.dataset = _joined(
                cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
            )
    for key in _OF_VAL:  # training data are not used for validation
        cfg[key] = None
    # The last epoch is tested: its accuracy decides nothing any more.
    epochs = cfg.train_cfg.get('max_epochs')
    hooks = _hooks(cfg)
    hooks['checkpoint'] = dict(
        hooks.get('checkpoint') or {},
        type='lspt_mm.PromptCheckpointHook',
        content='prompts' if _frozen_and_found_again(cfg) else 'full',
        by_epoch=epochs is not None,
        interval=epochs or cfg.train_cfg.max_iters,
        save_best=None,
    )
    return _common(cfg, seed)


def _frozen_and_found_again(cfg: Config) -> bool:
    """Whether a checkpoint may leave out the ViT: only if it is frozen and not random."""
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    return not allows_random(cfg) and backbone.get('tune', 'prompts') != 'full'


def _joined(train: ConfigDict, val: ConfigDict) -> dict:
    return dict(type='ConcatDataset', datasets=[train, _like(train, val)])


def _like(train: ConfigDict, val: ConfigDict) -> dict:
    """The validation data with the wrappers and the pipeline of the training data."""
    if isinstance(train.get('dataset'), dict):
        return dict(train, dataset=_like(train.dataset, val))
    if 'pipeline' not in train:
        raise InputError(
            f'train_dataloader.dataset of type {train.get("type")} has no pipeline that could be '
            'given to the validation images; set the training data of the final runs in the '
            'config: final = dict(train_dataloader=dict(dataset=dict(...)))'
        )
    return dict(val, pipeline=train.pipeline)


def _check_test_is_apart(cfg: Config) -> None:
    """OpenMMLab's configs often have ``test_dataloader = val_dataloader``."""
    if cfg.get('val_dataloader') is None:
        return
    val, test = (
        {k: v for k, v in cfg[f'{name}_dataloader'].dataset.items() if k not in _HOW}
        for name in ('val', 'test')
    )
    if val == test:
        raise InputError(
            'the test data of this config are its validation data: a model that is chosen and '
            'trained on them cannot be tested on them. Give test_dataloader data of its own, or '
            'stop before the test with --select-only'
        )


def _check_metric(cfg: Config, name: str) -> None:
    evaluators, task = cfg.get(name), task_of(cfg)
    evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
    if not any(task.measured_by(evaluator or {}) for evaluator in evaluators):
        raise InputError(
            f'{name} of this config measures no {task.metric}, which a search selects by; expected '
            f'{task.evaluator!r}'
        )


def _hooks(cfg: Config) -> ConfigDict:
    if cfg.get('default_hooks') is None:
        cfg.default_hooks = ConfigDict()
    return cfg.default_hooks


def _common(cfg: Config, seed: int) -> Config:
    cfg.pop('final', None)
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    cfg.resume, cfg.launcher = False, 'none'
    return cfg


def check_grid_is_used(
    grid: Mapping[str, Sequence[Any]], points: Iterable[Mapping[str, Any]],
    config_of: Callable[[Mapping[str, Any]], Config],
) -> None:
    """Raise InputError if a name's values all give the same runs.

    Such as ``num_tokens`` where the config replaces the method's prompter by one of its own.
    """
    runs = [(point, {**config_of(point).to_dict(), 'experiment': None}) for point in points]
    for name, values in grid.items():
        like: Dict[str, list] = {}  # those that differ in the name alone
        for point, cfg in runs:
            like.setdefault(str({**point, name: None}), []).append(cfg)
        if len(values) > 1 and all(cfg == cfgs[0] for cfgs in like.values() for cfg in cfgs):
            raise InputError(
                f'--grid {name}: this config gives the same run for {", ".join(map(str, values))}; '
                'it replaces what the argument sets. Name the key of the config, such as '
                'model.backbone.prompter.num_tokens'
            )


def split_point(point: Mapping[str, Any]) -> tuple:
    """The point's values of a ``transfer.py`` (names), and those of any config (dotted keys)."""
    named = {name: value for name, value in point.items() if '.' not in name}
    return named, {name: value for name, value in point.items() if '.' in name}


def seeds_checked(seeds: List[int]) -> List[int]:
    """The seeds, or InputError."""
    if len(set(seeds)) != len(seeds) or any(seed < 0 for seed in seeds):
        raise InputError(f'seeds {seeds}: expected different integers >= 0')
    return list(seeds)
