"""One transformer block with prompts in it, on the parameters of mmpretrain's encoder layer.

Shapes: B images, T tokens, P prompts that are only read, D width, H heads of width d.
"""

from typing import Optional, Tuple

import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor
from torch.nn import functional as F


def run_block(
    layer: TransformerEncoderLayer,
    tokens: Tensor,
    read_only: Optional[Tensor] = None,
    temperature: Optional[Tensor] = None,
    asked: Optional[Tuple[int, int]] = None,
) -> Tensor:
    """Run one encoder layer.

    Args:
        layer: mmpretrain's encoder layer; its parameters are used as they are.
        tokens: (B, T, D), prompts among them if any is to come out again.
        read_only: Prompts whose outputs nobody reads, (1 or B, P, D): they are keys and values
            only, need no query, no output projection and no MLP, and those of (1, P, D) are
            normalised and projected once for the batch. The other tokens come out the same, as
            nothing else reads a prompt's output.
        temperature: What divides the queries (attention shaping, GaPT), or None: a scalar, or one
            for each image (B, 1, 1, 1).
        asked: The tokens ``asked[0] .. asked[1] - 1`` alone are to come out, for the last block
            of a model of which a part is used; None is all. The others are keys and values only.

    Returns:
        Tensor: (B, T, D), or (B, asked[1] - asked[0], D).
    """
    normed = layer.ln1(tokens)
    if read_only is not None:
        read_only = layer.ln1(read_only.to(tokens.dtype))
    out = attend(layer.attn, normed, temperature, read_only, asked)
    if asked is not None:
        tokens = tokens[:, asked[0] : asked[1]]
    tokens = tokens + out
    return layer.ffn(layer.ln2(tokens), identity=tokens)


def attend(
    attn,
    tokens: Tensor,
    temperature: Optional[Tensor] = None,
    read_only: Optional[Tensor] = None,
    asked: Optional[Tuple[int, int]] = None,
) -> Tensor:
    """softmax(q k^T / sqrt(d_head) / temperature) v, projected; on normalised tokens.

    Args:
        attn: mmpretrain's ``MultiheadAttention``.
        tokens: (B, T, D), the tokens that are read, and ask.
        temperature: Scalar, (B, 1, 1, 1), or None (1).
        read_only: (1 or B, P, D), tokens that are only read, or None.
        asked: First and last but one of the tokens that ask; None is all.

    Returns:
        Tensor: (B, T, D), or (B, asked[1] - asked[0], D).
    """
    if asked is None:
        q, k, v = split_heads(attn, attn.qkv(tokens), 3)  # each (B, H, T, d)
    else:
        (q,) = project(attn, tokens[:, asked[0] : asked[1]], 0, 1)
        k, v = project(attn, tokens, 1, 3)
    if read_only is not None:
        batch = tokens.size(0)
        k_prompts, v_prompts = project(attn, read_only, 1, 3)
        k = torch.cat((k_prompts.expand(batch, -1, -1, -1), k), dim=2)  # (B, H, P+T, d)
        v = torch.cat((v_prompts.expand(batch, -1, -1, -1), v), dim=2)
    if temperature is not None:
        q = q / temperature.to(q.dtype)
    dropout = attn.attn_drop if attn.training else 0.0
    out = attn.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    out = attn.proj(out.transpose(1, 2).flatten(2))
    return attn.out_drop(attn.gamma1(attn.proj_drop(out)))


def project(attn, tokens: Tensor, first: int, end: int) -> Tuple[Tensor, ...]:
    """Parts ``first .. end - 1`` of queries (0), keys (1), values (2) of tokens (B, T, D)."""
    # The rows of the packed projection are W_q, W_k, W_v.
    rows = slice(first * attn.embed_dims, end * attn.embed_dims)
    bias = None if attn.qkv.bias is None else attn.qkv.bias[rows]
    return split_heads(attn, F.linear(tokens, attn.qkv.weight[rows], bias), end - first)


def split_heads(attn, packed: Tensor, parts: int) -> Tuple[Tensor, ...]:
    """(B, T, parts*D) to ``parts`` tensors (B, H, T, d_head)."""
    batch, length, width = packed.shape
    d_head = width // (parts * attn.num_heads)
    packed = packed.view(batch, length, parts, attn.num_heads, d_head)
    return packed.permute(2, 0, 3, 1, 4).unbind(0)
