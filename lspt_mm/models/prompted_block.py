"""One transformer block with prompts in it, on the parameters of mmpretrain's encoder layer.

Shapes: B images, T tokens, P prompts that are keys and values only, D width, H heads of width d.
"""

import functools
from typing import Optional, Tuple

import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lspt_mm.models.attention import KVPrompts, attend


def block_forward(
    layer: TransformerEncoderLayer,
    x: Tensor,
    kv_prompts: KVPrompts = None,
    temperature: Optional[Tensor] = None,
    out_range: Optional[Tuple[int, int]] = None,
    recompute_mlp: bool = False,
) -> Tensor:
    """Run one encoder layer.

    Args:
        layer: mmpretrain's encoder layer; its parameters are used as they are.
        x: (B, T, D), with the prompts whose outputs are read.
        kv_prompts: Prompts that are keys and values only: they need no query, no output projection
            and no MLP; those of (1, P, D) are normalised and projected once for the batch. The
            other tokens come out the same, as nothing else reads a prompt's output.
        temperature: Divides the queries (attention shaping, GaPT): a scalar or (B, 1, 1, 1).
        out_range: Only tokens ``out_range[0] .. out_range[1] - 1`` come out, for the last block of
            a model that reads a part; the others are keys and values only. None: all.
        recompute_mlp: Keep queries, keys, values and the attention's output for the backward pass,
            and compute all after them again (5 D numbers a token instead of 10 D, for a fifth of
            the products of a frozen layer's step).

    Returns:
        Tensor: (B, T, D), or (B, out_range[1] - out_range[0], D).
    """
    attn_out = attend(layer.attn, layer.ln1, x, kv_prompts, temperature, out_range)
    if out_range is not None:
        x = x[:, out_range[0] : out_range[1]]
    if recompute_mlp:
        return checkpoint(project_and_mlp, layer, x, attn_out, use_reentrant=False)
    return project_and_mlp(layer, x, attn_out)


@functools.cache
def compiled_block_forward():
    """:func:`block_forward` by ``torch.compile``, one for all models of the process."""
    return torch.compile(block_forward)


def project_and_mlp(layer: TransformerEncoderLayer, x: Tensor, attn_out: Tensor) -> Tensor:
    """The layer after attention (B, T, D): projection, residual, MLP."""
    attn = layer.attn
    x = x + attn.out_drop(attn.gamma1(attn.proj_drop(attn.proj(attn_out))))
    return layer.ffn(layer.ln2(x), identity=x)
