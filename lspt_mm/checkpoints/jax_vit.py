"""Converts JAX archives (.npz) of supervised ViTs (arXiv 2010.11929, 2106.10270) to mmpretrain.

Flax stores a dense layer's kernel as (in, out) and a convolution's as (height, width, in, out).
Attention has a separate axis for heads: (D, H, d) for query, key and value, (H, d, D) for the
output. The papers' code numbers the parts of a block in one sequence; big_vision numbers each kind
separately and has the position embedding at the top level.
"""

import re
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

_BLOCK = 'Transformer/encoderblock_{}/'
_NORMS = {'ln1': ('LayerNorm_0',), 'ln2': ('LayerNorm_2', 'LayerNorm_1')}
_ATTENTION = ('MultiHeadDotProductAttention_1', 'MultiHeadDotProductAttention_0')
_MLP = ('MlpBlock_3', 'MlpBlock_0')
_DENSE = {'Dense_0': 'ffn.layers.0.0', 'Dense_1': 'ffn.layers.1'}


def is_jax(state: dict) -> bool:
    """Whether the keys are those of such an archive, with any prefix."""
    return _prefix(state) is not None


def _prefix(state: dict) -> Optional[str]:
    matches = (re.match(r'(.*?)Transformer/encoderblock_0/', str(key)) for key in state)
    found = {m[1] for m in matches if m}
    # A training file has the optimizer's moments under the same names.
    known = [p for p in ('params/img/', 'params/', 'opt/target/', '') if p in found]
    if known:
        return known[0]
    if len(found) > 1:
        raise ValueError(
            f'several Vision Transformers in it, below {", ".join(sorted(found))}; keep one'
        )
    return found.pop() if found else None


def to_mmpretrain(state: dict) -> Tuple[Dict[str, Tensor], List[str], Optional[int]]:
    """Rename and transpose; returns tensors, the keys not used, and the number of heads."""
    prefix, used, out = _prefix(state), set(), {}

    def take(*names: str) -> Optional[Tensor]:
        key = next((prefix + n for n in names if prefix + n in state), None)
        if key is None:
            return None
        used.add(key)
        return state[key]

    def put(name: str, tensor: Optional[Tensor]) -> None:
        if tensor is not None:
            out[name] = tensor

    def norm(ours: str, *theirs: str) -> None:
        put(f'{ours}.weight', take(*(f'{name}/scale' for name in theirs)))
        put(f'{ours}.bias', take(*(f'{name}/bias' for name in theirs)))

    kernel = take('embedding/kernel')
    put('patch_embed.projection.weight', None if kernel is None else kernel.permute(3, 2, 0, 1))
    put('patch_embed.projection.bias', take('embedding/bias'))
    put('cls_token', take('cls'))
    put('pos_embed', take('Transformer/posembed_input/pos_embedding', 'pos_embedding'))
    norm('ln1', 'Transformer/encoder_norm')
    heads, number = None, 0
    while any(str(k).startswith(prefix + _BLOCK.format(number)) for k in state):
        block, layer = _BLOCK.format(number), f'layers.{number}'
        for ours, theirs in _NORMS.items():
            norm(f'{layer}.{ours}', *(block + name for name in theirs))

        def of(parts, name, block=block):
            return take(*(f'{block}{part}/{name}' for part in parts))

        kernels = [of(_ATTENTION, f'{part}/kernel') for part in ('query', 'key', 'value')]
        if all(k is not None for k in kernels):
            heads = kernels[0].size(1)
            # (D, H, d) to (H * d, D), stacked.
            put(f'{layer}.attn.qkv.weight', torch.cat([k.flatten(1).T for k in kernels]))
        biases = [of(_ATTENTION, f'{part}/bias') for part in ('query', 'key', 'value')]
        if all(b is not None for b in biases):
            put(f'{layer}.attn.qkv.bias', torch.cat([b.flatten() for b in biases]))
        kernel = of(_ATTENTION, 'out/kernel')  # (H, d, D)
        put(f'{layer}.attn.proj.weight', None if kernel is None else kernel.flatten(0, 1).T)
        put(f'{layer}.attn.proj.bias', of(_ATTENTION, 'out/bias'))
        for theirs, ours in _DENSE.items():
            kernel = of(_MLP, f'{theirs}/kernel')
            put(f'{layer}.{ours}.weight', None if kernel is None else kernel.T)
            put(f'{layer}.{ours}.bias', of(_MLP, f'{theirs}/bias'))
        number += 1
    return out, [k for k in state if k not in used], heads
