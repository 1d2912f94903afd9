"""Checks of arguments: a bad value is named at construction, with what was expected."""

import math
from typing import List, Optional

import torch

#: No number of tokens, channels or blocks is larger; beyond 64 bits PyTorch raises a TypeError.
LARGEST = 2**31 - 1


def check_int(name: str, value, least: int, most: Optional[int] = None) -> None:
    """Raise ValueError unless ``value`` is an integer from ``least`` to ``most``."""
    ok = isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST
    if not ok or (most is not None and value > most):
        span = f'of at least {least}' if most is None else f'from {least} to {most}'
        raise ValueError(f'{name}={value!r}: expected an integer {span}')


def check_number(name: str, value, least: float = -math.inf) -> None:
    """Raise ValueError unless ``value`` is a finite number of at least ``least``."""
    ok = isinstance(value, (int, float)) and not isinstance(value, bool)
    # What is beyond float32 is infinite in a parameter (and NaN compares as False).
    if not (ok and abs(value) <= torch.finfo(torch.float32).max):
        raise ValueError(f'{name}={value!r}: expected a finite number (of float32)')
    if value < least:
        raise ValueError(f'{name}={value!r}: expected a number of at least {least}')


def check_share(name: str, value) -> None:
    """Raise ValueError unless ``value`` is a number from 0 to below 1."""
    ok = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (ok and 0 <= value < 1):
        raise ValueError(f'{name}={value!r}: expected a number from 0 to below 1')


def check_size(name: str, value) -> None:
    """Raise ValueError unless ``value`` is an integer of at least 1, or a pair of them."""
    pair = value if isinstance(value, (list, tuple)) and len(value) == 2 else (value, value)
    for side in pair:
        if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= LARGEST:
            raise ValueError(f'{name}={value!r}: expected an integer of at least 1 or a pair')


def check_choice(name: str, value, choices) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f'{name}={value!r}: expected one of {", ".join(map(repr, choices))}')


def check_bool(name: str, value) -> None:
    """Raise ValueError unless ``value`` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f'{name}={value!r}: expected True or False')


def check_arch(arch, zoo: dict) -> int:
    """Number of blocks of ``arch``, a name in mmpretrain's ``zoo`` or a dict of measures."""
    if isinstance(arch, str):
        if arch.lower() not in zoo:
            raise ValueError(f'arch={arch!r}: expected one of {sorted(zoo)} or a dict')
        return zoo[arch.lower()]['num_layers']
    keys = ('embed_dims', 'num_layers', 'num_heads', 'feedforward_channels')
    if not isinstance(arch, dict) or not all(
        type(arch.get(k)) is int and 0 < arch[k] <= LARGEST for k in keys
    ):
        raise ValueError(f'arch={arch!r}: expected a name or a dict of integers {keys}')
    if arch['embed_dims'] % arch['num_heads']:
        raise ValueError(
            f'arch: embed_dims={arch["embed_dims"]} is not divisible by '
            f'num_heads={arch["num_heads"]}'
        )
    return arch['num_layers']


def check_vit_arguments(given: dict) -> None:
    """Raise ValueError for values of further ViT arguments that mmpretrain would fail on later."""
    for name in ('qkv_bias', 'with_cls_token', 'pre_norm'):
        if name in given:
            check_bool(name, given[name])
    if 'drop_rate' in given:
        check_share('drop_rate', given['drop_rate'])
    if 'drop_path_rate' in given:
        check_share('drop_path_rate', given['drop_path_rate'])
    if 'layer_scale_init_value' in given:
        check_number('layer_scale_init_value', given['layer_scale_init_value'], 0)
    if 'interpolate_mode' in given:
        modes = ('nearest', 'bilinear', 'bicubic', 'area', 'nearest-exact')
        check_choice('interpolate_mode', given['interpolate_mode'], modes)
    for name in ('img_size', 'patch_size'):
        check_size(name, given.get(name, 16))


def check_out_indices(out_indices, num_layers: int) -> List[int]:
    """``out_indices`` as a list of indices from 0."""
    indices = [out_indices] if isinstance(out_indices, int) else out_indices
    if not isinstance(indices, (list, tuple)):
        raise ValueError(f'out_indices={out_indices!r}: expected an integer or a list of them')
    if not indices:
        raise ValueError('out_indices is empty: expected at least one block, such as -1')
    for index in indices:
        if type(index) is not int or not -num_layers <= index < num_layers:
            raise ValueError(
                f'out_indices={out_indices!r}: blocks are counted from 0 to {num_layers - 1} '
                f'here (or from -1 backwards), {index} is none'
            )
    counted = [index % num_layers for index in indices]
    if len(set(counted)) < len(counted):
        raise ValueError(f'out_indices={out_indices!r}: a block is named twice')
    return counted
