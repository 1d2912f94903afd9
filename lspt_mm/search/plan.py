"""Configs of a search's runs: who may see which data."""

import copy
from typing import Any, Dict, List, Mapping

from mmengine.config import Config

from lspt_mm.engine.options import merge_options
from lspt_mm.engine.preflight import allows_random
from lspt_mm.errors import InputError

#: What a run needs to reach data.
_OF_TEST = ('test_dataloader', 'test_cfg', 'test_evaluator')
_OF_VAL = ('val_dataloader', 'val_cfg', 'val_evaluator')


def selection_config(cfg: Config, seed: int) -> Config:
    """Train on the training data, validate; the config does not even name the test data."""
    if cfg.get('val_dataloader') is None:
        raise InputError('the config has no val_dataloader to select on')
    cfg = copy.deepcopy(cfg)
    for key in _OF_TEST:
        cfg[key] = None
    cfg.default_hooks.checkpoint = None  # nobody goes on from these runs
    return _common(cfg, seed)


def final_config(cfg: Config, seed: int, on: str = 'train+val') -> Config:
    """Train on training and validation data together (or on the former alone), then test.

    ``cfg.final`` is merged into the config where it has one (VTAB-1K's list of both); otherwise
    the two data sets are concatenated, both with the training pipeline.

    Raises:
        InputError: If the config has no test data.
    """
    if cfg.get('test_dataloader') is None:
        raise InputError('the config has no test_dataloader')
    if on not in ('train+val', 'train'):
        raise InputError(f"on={on!r}: expected 'train+val' or 'train'")
    cfg = copy.deepcopy(cfg)
    if on == 'train+val':
        if cfg.get('final'):
            cfg.merge_from_dict(cfg.final)
        else:
            train, val = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
            val = dict(val, pipeline=train.pipeline)
            cfg.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[train, val])
    for key in _OF_VAL:  # what was trained on is not validated on
        cfg[key] = None
    # The last epoch is what is tested: its accuracy decides nothing any more.
    epochs = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.get('max_iters')
    content = 'full' if allows_random(cfg) else 'prompts'  # a random ViT cannot be found again
    cfg.default_hooks.checkpoint.update(
        type='lspt_mm.PromptCheckpointHook', content=content, interval=epochs, save_best=None
    )
    return _common(cfg, seed)


def _common(cfg: Config, seed: int) -> Config:
    cfg.pop('final', None)
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    cfg.resume, cfg.launcher = False, 'none'
    return cfg


def split_point(point: Mapping[str, Any]) -> tuple:
    """The point's values of a ``transfer.py`` (names), and those of any config (dotted keys)."""
    named = {name: value for name, value in point.items() if '.' not in name}
    return named, {name: value for name, value in point.items() if '.' in name}


def with_options(cfg: Config, options: Dict[str, Any]) -> Config:
    """``cfg`` with dotted keys set, as ``--cfg-options`` does."""
    merge_options(cfg, options)
    return cfg


def seeds_checked(seeds: List[int]) -> List[int]:
    """The seeds, or InputError."""
    if len(set(seeds)) != len(seeds) or any(seed < 0 for seed in seeds):
        raise InputError(f'seeds {seeds}: expected different integers >= 0')
    return list(seeds)
