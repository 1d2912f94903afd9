"""Checks the arguments of prompted ViTs."""

from typing import Any, Dict, List

from lspt_mm.models.lora import PARTS
from lspt_mm.models.tuning import check_tune
from lspt_mm.utils.checks import (
    LARGEST,
    check_bool,
    check_choice,
    check_int,
    check_number,
    check_share,
    check_size,
)

#: Letters of 'qkv', each once, in their order.
_SOME_PARTS = ('q', 'k', 'v', 'qk', 'qv', 'kv', PARTS)


def check_arch(arch, zoo: dict) -> int:
    """Number of blocks of ``arch``, a name in mmpretrain's ``zoo`` or a dict of sizes."""
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


def check_arguments(given: Dict[str, Any], arch_zoo: dict, out_types) -> List[int]:
    """Check the arguments of a ``PromptedViT``; return ``out_indices`` counted from 0.

    Args:
        given: All arguments by name; those of mmpretrain's ``VisionTransformer`` may be absent.
        arch_zoo: mmpretrain's architectures by name.
        out_types: Names that ``out_type`` may have.

    Raises:
        ValueError: For the first value that is not one.
    """
    num_layers = check_arch(given['arch'], arch_zoo)
    if 'frozen_stages' in given:
        raise ValueError("frozen_stages: not used here; set tune='nothing' or tune='partial-K'")
    check_int('num_registers', given['num_registers'], 0)
    check_vit_arguments(given)
    return check_common(given, num_layers, out_types)


def check_common(given: Dict[str, Any], num_layers: int, out_types) -> List[int]:
    """Check the arguments that all prompted ViTs have; return ``out_indices`` from 0.

    Raises:
        ValueError: For the first value that is not one.
    """
    check_tune(given['tune'], num_layers)
    check_bool('compile_blocks', given['compile_blocks'])
    if given['final_norm'] != 'identity' and not isinstance(given['final_norm'], bool):
        raise ValueError(
            f"final_norm={given['final_norm']!r}: expected True, False or 'identity'"
        )
    parts = given['lora_parts']
    if not isinstance(parts, str) or not parts or parts not in _SOME_PARTS:
        raise ValueError(f"lora_parts={parts!r}: expected letters of 'qkv', such as 'qv'")
    with_cp, out_type, pretrained = given['with_cp'], given['out_type'], given['pretrained']
    if with_cp != 'selective' and not isinstance(with_cp, bool):
        raise ValueError(f"with_cp={with_cp!r}: expected True, False or 'selective'")
    if not isinstance(out_type, str) or out_type not in out_types:
        raise ValueError(f'out_type={out_type!r}: expected one of {sorted(out_types)}')
    if out_type == 'avg_prompts' and given['prompter'] is None:
        raise ValueError("out_type='avg_prompts' needs a prompter, but prompter=None")
    if not (pretrained is None or (isinstance(pretrained, str) and pretrained)):
        raise ValueError(f'pretrained={pretrained!r}: expected a path, a URL or None')
    return check_out_indices(given['out_indices'], num_layers)


def check_outputs(vit) -> None:
    """Raise ValueError if ``out_indices`` are too early for the trained parts or prompts."""
    last = vit.num_layers - 1
    trained = vit.tune if vit.prompter is None else 'a prompter'
    if trained not in ('prompts', 'nothing') and max(vit.out_indices) < last:
        raise ValueError(
            f'out_indices={vit.out_indices}: with {trained} the last block ({last}, or -1) has to '
            'be among them; parameters after the last one would never get a gradient. '
            'For a shallower ViT give arch fewer num_layers'
        )
    if vit.out_type == 'avg_prompts' and min(vit.out_indices) + 1 < vit.prompter.start_block:
        start = vit.prompter.start_block
        raise ValueError(
            f"out_type='avg_prompts', out_indices={vit.out_indices}: prompts enter at block "
            f'{start} (index {start - 1}), there are none before'
        )


def check_vit_arguments(given: dict) -> None:
    """Raise ValueError for values of further arguments on which mmpretrain would fail later."""
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
    """Convert ``out_indices`` to a list of indices from 0."""
    indices = [out_indices] if isinstance(out_indices, int) else out_indices
    if not isinstance(indices, (list, tuple)):
        raise ValueError(f'out_indices={out_indices!r}: expected an integer or a list of them')
    if not indices:
        raise ValueError('out_indices is empty: expected at least one block, such as -1')
    for index in indices:
        if type(index) is not int or not -num_layers <= index < num_layers:
            raise ValueError(
                f'out_indices={out_indices!r}: blocks are counted from 0 to {num_layers - 1} '
                f'here (or from -1 backwards), got {index}'
            )
    counted = [index % num_layers for index in indices]
    if len(set(counted)) < len(counted):
        raise ValueError(f'out_indices={out_indices!r}: a block is named twice')
    return counted
