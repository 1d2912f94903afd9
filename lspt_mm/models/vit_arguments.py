"""Checks of the arguments of a ViT."""

from typing import List

from lspt_mm.utils.checks import (
    LARGEST,
    check_bool,
    check_choice,
    check_number,
    check_share,
    check_size,
)


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
