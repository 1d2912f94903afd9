"""Suggests which arguments to change when weights do not fit a model."""

import re
from typing import Dict, List, Optional

from torch import Tensor


def mismatch_hints(
    wanted: Dict[str, Tensor],
    tensors: Dict[str, Tensor],
    missing: List[str],
    num_heads: Optional[int] = None,
) -> List[str]:
    """Suggest arguments of the ``PromptedViT`` to change; at least one line.

    Args:
        wanted: The model's tensors.
        tensors: The file's, by the same names.
        missing: Names of ``wanted`` that the file lacks.
        num_heads: The file's number of heads, if it differs from the model's.
    """
    first = [cause for find in _FINDERS for cause in find(wanted, tensors)]
    if num_heads is not None:
        first.append(
            f'arch of another number of heads: give it as a dict with num_heads={num_heads} (MoCo '
            "v3's ViT-S has 12, where 'deit-small' has 6)"
        )
    if first:
        return first
    if missing:
        return ['the file is incomplete or damaged']
    return ['arch (width, depth)']


def _shape(tensors, name) -> Optional[tuple]:
    return tuple(tensors[name].shape) if name in tensors else None


def _arch(wanted, tensors) -> List[str]:
    name = 'patch_embed.projection.weight'
    theirs, ours = _shape(tensors, name), _shape(wanted, name)
    found = []
    if theirs and ours and len(theirs) == 4:
        if theirs[0] != ours[0]:
            return [f'arch (width {theirs[0]} in the file, {ours[0]} in the model)']
        if theirs[2:] != ours[2:]:
            found.append(f'patch_size={theirs[2] if theirs[2] == theirs[3] else theirs[2:]}')
        if theirs[1] != ours[1]:
            found.append(f'in_channels={theirs[1]}')
    depths = [depth_of(t) for t in (tensors, wanted)]
    if depths[0] != depths[1]:
        found.append(f'arch (depth: {depths[0]} blocks in the file, {depths[1]} in the model)')
    name = 'layers.0.ffn.layers.0.0.weight'
    theirs, ours = _shape(tensors, name), _shape(wanted, name)
    if theirs and ours and theirs != ours:
        found.append(f'arch (feedforward_channels={theirs[0]})')
    return found


def depth_of(tensors: Dict[str, Tensor], blocks: str = 'layers') -> int:
    """Number of blocks; ``blocks`` is their prefix, mmpretrain's by default."""
    numbers = [re.match(rf'{blocks}\.(\d+)\.', name) for name in tensors]
    return max((int(found[1]) + 1 for found in numbers if found), default=0)


def _layer_scale(wanted, tensors) -> List[str]:
    name = 'layers.0.attn.gamma1.weight'
    if name in tensors and name not in wanted:
        return ['layer_scale_init_value=1e-5 (any value above 0; the file has LayerScale)']
    if name in wanted and name not in tensors:
        return ['layer_scale_init_value=0 (the file has no LayerScale)']
    return []


def _qkv_bias(wanted, tensors) -> List[str]:
    name = 'layers.0.attn.qkv.bias'
    if (name in tensors) == (name in wanted) or 'layers.0.attn.qkv.weight' not in tensors:
        return []
    if any(f'layers.{i}.attn.qkv.bias' in tensors for i in range(1, depth_of(tensors))):
        return [] if name in wanted else ['qkv_bias=True']
    return ['qkv_bias=True'] if name in tensors else ['qkv_bias=False']


def _patch_bias(wanted, tensors) -> List[str]:
    name = 'patch_embed.projection'
    if f'{name}.weight' in tensors and f'{name}.bias' in wanted.keys() - tensors.keys():
        return ["patch_cfg=dict(bias=False), as mmseg's own ViT has by default"]
    return []


def _tokens(wanted, tensors) -> List[str]:
    found = []
    theirs, ours = _shape(tensors, 'register_tokens'), _shape(wanted, 'register_tokens')
    if theirs != ours and len(theirs or (0, 0, 0)) == 3:
        count = theirs[1] if theirs else 0
        if count != (ours[1] if ours else 0):
            found.append(f'num_registers={count} (register and distillation tokens of the file)')
    if _lacks_only(wanted, tensors, 'cls_token'):
        found.append('with_cls_token=False')
    return found


def _lacks_only(wanted, tensors, name) -> bool:
    """Whether the file lacks only ``name`` and its position embedding."""
    pos = _shape(tensors, 'pos_embed'), _shape(wanted, 'pos_embed')
    absent = [k for k in wanted if k not in tensors and not k.startswith('ln2.')]
    return absent == [name] and None not in pos and pos[0] != pos[1]


def _norms(wanted, tensors) -> List[str]:
    found = []
    if ('pre_norm.weight' in tensors) != ('pre_norm.weight' in wanted):
        found.append(f'pre_norm={"pre_norm.weight" in tensors}')
    if 'ln1.weight' in wanted and 'ln1.weight' not in tensors and 'ln2.weight' in tensors:
        found.append(
            "the file was fine-tuned on pooled patches and has only the norm after the mean "
            "(fc_norm): use out_type='avg_patches', or final_norm=False"
        )
    absent = [name for name in wanted if name not in tensors]
    if absent and all(name.startswith('ln1.') for name in absent) and 'ln2.weight' not in tensors:
        found.append(
            'the file lacks the final norm alone: use one that has it, or the features before it '
            '(final_norm=False, or --cfg-options model.backbone.final_norm=False)'
        )
    if 'layers.0.attn.q_norm.weight' in tensors:
        found.append('the file normalises queries and keys, which this ViT does not')
    if any(name.startswith(('rope', 'rel_pos')) for name in tensors):
        found.append('the file has rotary or relative position embeddings, which this ViT lacks')
    return found


def _ffn(wanted, tensors) -> List[str]:
    if 'layers.0.ffn.w12.weight' in tensors and 'layers.0.ffn.w12.weight' not in wanted:
        return ["layer_cfgs=dict(ffn_type='swiglu_fused')"]
    return []


_FINDERS = (_arch, _layer_scale, _qkv_bias, _patch_bias, _tokens, _norms, _ffn)
