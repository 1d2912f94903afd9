"""One transformer block with prompts in it, on the parameters of mmpretrain's encoder layer.

Shapes: B images, E extra tokens (class token), P prompts, N patches, D width, H heads.
"""

from typing import Optional, Tuple

import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor
from torch.nn import functional as F


def insert_prompts(x: Tensor, prompts: Tensor, num_extra: int) -> Tensor:
    """``[extra | patches]`` (B, E+N, D), prompts (1|B, P, D) to ``[extra | prompts | patches]``."""
    prompts = prompts.to(x.dtype).expand(x.size(0), -1, -1)
    # Split, not sliced: a slice's gradient is a tensor of zeros as large as x.
    extra, patches = x.split((num_extra, x.size(1) - num_extra), dim=1)
    return torch.cat((extra, prompts, patches), dim=1)  # (B, E+P+N, D)


def take_out_prompts(tokens: Tensor, num_prompts: int, num_extra: int) -> Tuple[Tensor, Tensor]:
    """The inverse of :func:`insert_prompts`: returns ``x`` (B, E+N, D), ``prompts`` (B, P, D)."""
    extra, prompts, patches = tokens.split(
        (num_extra, num_prompts, tokens.size(1) - num_extra - num_prompts), dim=1
    )
    return torch.cat((extra, patches), dim=1), prompts


def run_block(
    layer: TransformerEncoderLayer,
    x: Tensor,
    prompts: Optional[Tensor] = None,
    num_extra: int = 1,
    temperature: Optional[Tensor] = None,
    prompts_out: bool = True,
) -> Tuple[Tensor, Optional[Tensor]]:
    """Run one encoder layer over ``[extra | prompts | patches]``.

    Args:
        layer: mmpretrain's encoder layer; its parameters are used as they are.
        x: Extra and patch tokens, (B, E+N, D).
        prompts: (1 or B, P, D), or None for the plain layer.
        num_extra: E, the number of leading tokens of ``x`` that stay before the prompts.
        temperature: What divides the queries (attention shaping, GaPT), or None: a scalar, or one
            for each image (B, 1, 1, 1).
        prompts_out: Whether the caller reads what the layer makes of its prompts. If not, the
            prompts are keys and values only: they need no query, no output projection and no
            MLP, and prompts of one image (1, P, D) are normalised and projected once for the
            batch. The other tokens come out the same, as nothing else reads a prompt's output.

    Returns:
        tuple: ``x`` (B, E+N, D), and the prompts as the layer leaves them (B, P, D), or None
        where there are none or ``prompts_out`` is False.
    """
    if prompts is None:
        return _run(layer, x, temperature), None
    if not prompts_out:
        return _run(layer, x, temperature, prompts.to(x.dtype)), None
    tokens = _run(layer, insert_prompts(x, prompts, num_extra), temperature)
    return take_out_prompts(tokens, prompts.size(1), num_extra)


def _run(layer, tokens, temperature=None, read_only=None) -> Tensor:
    """The layer's forward pass, with a temperature and key/value-only tokens if any."""
    if read_only is not None:
        read_only = layer.ln1(read_only)
    tokens = tokens + attend(layer.attn, layer.ln1(tokens), temperature, read_only)
    return layer.ffn(layer.ln2(tokens), identity=tokens)


def attend(attn, tokens: Tensor, temperature=None, read_only: Optional[Tensor] = None) -> Tensor:
    """softmax(q k^T / sqrt(d_head) / temperature) v, projected; on normalised tokens.

    Args:
        attn: mmpretrain's ``MultiheadAttention``.
        tokens: (B, T, D), the tokens that ask, and are read.
        temperature: Scalar, (B, 1, 1, 1), or None (1).
        read_only: (1 or B, P, D), tokens that are only read, or None.
    """
    batch, length, width = tokens.shape
    q, k, v = split_heads(attn, attn.qkv(tokens), 3)  # each (B, H, T, d)
    if read_only is not None:
        # The rows of the packed projection are W_q, W_k, W_v.
        bias = None if attn.qkv.bias is None else attn.qkv.bias[width:]
        kv = F.linear(read_only, attn.qkv.weight[width:], bias)  # (1 or B, P, 2D)
        k_prompts, v_prompts = split_heads(attn, kv, 2)
        k = torch.cat((k_prompts.expand(batch, -1, -1, -1), k), dim=2)  # (B, H, P+T, d)
        v = torch.cat((v_prompts.expand(batch, -1, -1, -1), v), dim=2)
    if temperature is not None:
        q = q / temperature.to(q.dtype)
    dropout = attn.attn_drop if attn.training else 0.0
    out = attn.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    out = attn.proj(out.transpose(1, 2).reshape(batch, length, width))
    return attn.out_drop(attn.gamma1(attn.proj_drop(out)))


def split_heads(attn, packed: Tensor, parts: int) -> Tuple[Tensor, ...]:
    """(B, T, parts*D) to ``parts`` tensors (B, H, T, d_head)."""
    batch, length, width = packed.shape
    d_head = width // (parts * attn.num_heads)
    packed = packed.view(batch, length, parts, attn.num_heads, d_head)
    return packed.permute(2, 0, 3, 1, 4).unbind(0)
