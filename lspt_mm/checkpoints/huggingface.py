"""Converts ``transformers`` names: ViTModel, Dinov2Model (also with registers), DINOv3ViTModel."""

import re
from typing import Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

_PATCHES = re.compile(r'(?:^|\.)embeddings\.patch_embeddings\.(?:projection\.)?weight$')
_BLOCK = re.compile(r'^(?:encoder\.|model\.)?layer\.(\d+)\.(.*)$')
_QKV = re.compile(r'^attention\.(?:attention\.)?(query|key|value|q_proj|k_proj|v_proj)\.(\w+)$')
#: Outside the blocks; registers get the names of DINOv3's authors, which timm reads as well.
_OUTSIDE = (
    (r'^embeddings\.cls_token$', 'cls_token'),
    (r'^embeddings\.mask_token$', 'mask_token'),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.patch_embeddings\.(?:projection\.)?', 'patch_embed.proj.'),
    (r'^(?:layernorm|norm)\.', 'norm.'),
)
_INSIDE = (
    (r'^attention\.(?:output\.dense|o_proj)\.', 'attn.proj.'),
    (r'^(?:layernorm_before|norm1)\.', 'norm1.'),
    (r'^(?:layernorm_after|norm2)\.', 'norm2.'),
    (r'^layer_scale([12])\.lambda1$', r'ls\1.gamma'),
    (r'^intermediate\.dense\.', 'mlp.fc1.'),
    (r'^output\.dense\.', 'mlp.fc2.'),
    (r'^mlp\.weights_in\.', 'mlp.w12.'),
    (r'^mlp\.weights_out\.', 'mlp.w3.'),
    (r'^mlp\.(fc[12])\.', r'mlp.\1.'),
)
_PLAIN = ((r'^mlp\.up_proj\.', 'mlp.fc1.'), (r'^mlp\.down_proj\.', 'mlp.fc2.'))
_GATED = (
    (r'^mlp\.gate_proj\.', 'mlp.w1.'),
    (r'^mlp\.up_proj\.', 'mlp.w2.'),
    (r'^mlp\.down_proj\.', 'mlp.w3.'),
)


def is_huggingface(state: dict) -> bool:
    """Whether the keys are those of ``transformers``."""
    return any(isinstance(key, str) and _PATCHES.search(key) for key in state)


def to_timm(state: dict) -> Tuple[Dict[str, Tensor], List[str]]:
    """Rename tensors as timm, or DINOv3's authors, do; also return the keys that are not used.

    Queries, keys and values become one projection; where only keys have no bias, theirs is 0.

    Raises:
        ValueError: If the file holds several ViTs, or a block lacks a part of its attention.
    """
    state = {str(key): value for key, value in state.items()}
    starts = {key[: m.start()] for key in state if (m := _PATCHES.search(key))}
    if len(starts) > 1:
        raise ValueError(
            f'several Vision Transformers in it, below {", ".join(sorted(starts))}; keep one'
        )
    prefix = f'{starts.pop()}.'.lstrip('.')
    gated = any('.mlp.gate_proj.' in key for key in state)
    registers = 'reg_token' if f'{prefix}embeddings.position_embeddings' in state else (
        'storage_tokens'
    )
    outside = (*_OUTSIDE, (r'^embeddings\.register_tokens$', registers))
    inside = (*_INSIDE, *(_GATED if gated else _PLAIN))
    found: Dict[str, Tensor] = {}
    parts: Dict[Tuple[str, str], Dict[str, Tensor]] = {}
    ignored = []
    for key, value in state.items():
        name = key[len(prefix) :] if key.startswith(prefix) else ''
        block = _BLOCK.match(name)
        qkv = block and _QKV.match(block[2])
        if qkv:
            parts.setdefault((block[1], qkv[2]), {})[qkv[1][0]] = value
            continue
        new = renamed(block[2], inside) if block else renamed(name, outside)
        if new is None:
            ignored.append(key)
        else:
            found[f'blocks.{block[1]}.{new}' if block else new] = value
    for (number, kind), of in parts.items():
        if set(of) == {'q', 'v'} and kind == 'bias':
            of['k'] = torch.zeros_like(of['q'])
        missing = set('qkv') - set(of)
        if missing:
            raise ValueError(f'block {number} lacks the {kind} of {", ".join(sorted(missing))}')
        found[f'blocks.{number}.attn.qkv.{kind}'] = torch.cat([of[part] for part in 'qkv'])
    return found, ignored


def renamed(name: str, table: Sequence[Tuple[str, str]]) -> Optional[str]:
    """Rename by the first matching pattern of the table; None if no pattern matches."""
    for pattern, new in table:
        if re.search(pattern, name):
            return re.sub(pattern, new, name)
    return None
