"""Attention with prompts that are keys and values only, on mmpretrain's packed projection.

Shapes: B images, T tokens, P prompts, D width, H heads of width d.
"""

from typing import Optional, Tuple, Union

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.models.ops.temperature import divide_by_temperature

#: Prompts whose outputs nobody reads, (1 or B, P, D); or their :func:`keys_and_values`.
KVPrompts = Union[Tensor, Tuple[Tensor, Tensor], None]


def attend(
    attn,
    norm: nn.Module,
    x: Tensor,
    kv_prompts: KVPrompts = None,
    temperature: Optional[Tensor] = None,
    out_range: Optional[Tuple[int, int]] = None,
) -> Tensor:
    """softmax(q k^T / sqrt(d) / temperature) v of all heads, side by side, not projected.

    ``attn`` is mmpretrain's ``MultiheadAttention``, ``norm`` what all tokens pass first; the rest
    is as in :func:`~lspt_mm.models.prompted_block.block_forward`.
    """
    normed = norm(x)
    if out_range is None and temperature is None:
        q, k, v = split_heads(attn, attn.qkv(normed), 3)  # each (B, H, T, d)
    else:
        # Apart, so that keys and values do not keep the undivided queries in memory.
        queries = normed if out_range is None else normed[:, out_range[0] : out_range[1]]
        (q,) = project(attn, queries, 0, 1)
        k, v = project(attn, normed, 1, 3)
    if kv_prompts is not None:
        if isinstance(kv_prompts, Tensor):
            kv_prompts = keys_and_values(attn, norm, kv_prompts.to(x.dtype))
        k, v = (
            torch.cat((prompts.expand(x.size(0), -1, -1, -1), own), dim=2)  # (B, H, P+T, d)
            for prompts, own in zip(kv_prompts, (k, v), strict=True)
        )
    if temperature is not None:
        q = divide_by_temperature(q, temperature)
    dropout = attn.attn_drop if attn.training else 0.0
    out = attn.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    return out.transpose(1, 2).flatten(2)


def keys_and_values(attn, norm: nn.Module, prompts: Tensor) -> Tuple[Tensor, ...]:
    """Keys and values (1 or B, H, P, d) of prompts (1 or B, P, D)."""
    return project(attn, norm(prompts), 1, 3)


def project(attn, x: Tensor, first: int, end: int) -> Tuple[Tensor, ...]:
    """Parts ``first .. end - 1`` of queries (0), keys (1), values (2) of tokens (B, T, D)."""
    # The rows of the packed projection are W_q, W_k, W_v.
    rows = slice(first * attn.embed_dims, end * attn.embed_dims)
    bias = None if attn.qkv.bias is None else attn.qkv.bias[rows]
    return split_heads(attn, F.linear(x, attn.qkv.weight[rows], bias), end - first)


def split_heads(attn, packed: Tensor, parts: int) -> Tuple[Tensor, ...]:
    """(B, T, parts*D) to ``parts`` tensors (B, H, T, d)."""
    packed = packed.unflatten(2, (parts, attn.num_heads, -1))
    return packed.permute(2, 0, 3, 1, 4).unbind(0)
