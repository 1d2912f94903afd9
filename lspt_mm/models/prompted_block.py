"""One transformer block with prompts in it, on the parameters of mmpretrain's encoder layer.

Shapes: B images, T tokens, P prompts that are only read, D width, H heads of width d.
"""

import functools
from typing import Optional, Tuple, Union

import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

#: Prompts that are only read, (1 or B, P, D); or what :func:`keys_and_values` made of them.
ReadOnly = Union[Tensor, Tuple[Tensor, Tensor], None]


def run_block(
    layer: TransformerEncoderLayer,
    tokens: Tensor,
    read_only: ReadOnly = None,
    temperature: Optional[Tensor] = None,
    asked: Optional[Tuple[int, int]] = None,
    keep_attention: bool = False,
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
        keep_attention: Keep queries, keys, values and the heads' outputs for the backward pass,
            and compute all behind them there again (5 D numbers a token instead of 10 D, for a
            fifth of the products of a frozen layer's step).

    Returns:
        Tensor: (B, T, D), or (B, asked[1] - asked[0], D).
    """
    heads = attend(layer.attn, layer.ln1, tokens, read_only, temperature, asked)
    if asked is not None:
        tokens = tokens[:, asked[0] : asked[1]]
    if keep_attention:
        return checkpoint(behind_attention, layer, tokens, heads, use_reentrant=False)
    return behind_attention(layer, tokens, heads)


@functools.cache
def compiled_block():
    """:func:`run_block` by ``torch.compile``, one for all models of the process."""
    return torch.compile(run_block)


def behind_attention(layer: TransformerEncoderLayer, tokens: Tensor, heads: Tensor) -> Tensor:
    """The layer from the heads' outputs (B, T, D) on: projection, residual, MLP."""
    attn = layer.attn
    tokens = tokens + attn.out_drop(attn.gamma1(attn.proj_drop(attn.proj(heads))))
    return layer.ffn(layer.ln2(tokens), identity=tokens)


def attend(
    attn,
    norm: nn.Module,
    tokens: Tensor,
    read_only: ReadOnly = None,
    temperature: Optional[Tensor] = None,
    asked: Optional[Tuple[int, int]] = None,
) -> Tensor:
    """softmax(q k^T / sqrt(d) / temperature) v of all heads, side by side and not yet projected.

    Args:
        attn: mmpretrain's ``MultiheadAttention``.
        norm: What all tokens pass first.
        tokens: (B, T, D), the tokens that are read, and ask.
        read_only, temperature, asked: As for :func:`run_block`.

    Returns:
        Tensor: (B, T, D), or (B, asked[1] - asked[0], D).
    """
    normed = norm(tokens)
    if asked is None and temperature is None:
        q, k, v = split_heads(attn, attn.qkv(normed), 3)  # each (B, H, T, d)
    else:
        # Apart, so that keys and values do not keep the undivided queries in memory.
        asking = normed if asked is None else normed[:, asked[0] : asked[1]]
        (q,) = project(attn, asking, 0, 1)
        k, v = project(attn, normed, 1, 3)
    if read_only is not None:
        if isinstance(read_only, Tensor):
            read_only = keys_and_values(attn, norm, read_only.to(tokens.dtype))
        batch = tokens.size(0)
        k, v = (
            # (B, H, P+T, d); fused ones may be of another precision.
            torch.cat((of_prompts.to(own.dtype).expand(batch, -1, -1, -1), own), dim=2)
            for of_prompts, own in zip(read_only, (k, v), strict=True)
        )
    if temperature is not None:
        q = Divide.apply(q, temperature)
    dropout = attn.attn_drop if attn.training else 0.0
    out = attn.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    return out.transpose(1, 2).flatten(2)


def keys_and_values(attn, norm: nn.Module, prompts: Tensor) -> Tuple[Tensor, ...]:
    """Keys and values (1 or B, H, P, d) of prompts (1 or B, P, D)."""
    return project(attn, norm(prompts), 1, 3)


class Divide(torch.autograd.Function):
    """Queries by a temperature, a scalar or (B, 1, 1, 1); keeps the quotient alone for backward.

    Attention keeps that anyway; the gradient of the temperature does not need the queries again.
    """

    @staticmethod
    def forward(ctx, q: Tensor, temperature: Tensor) -> Tensor:  # noqa: D102
        out = q / temperature.to(q.dtype)
        ctx.save_for_backward(out, temperature)
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: D102
        out, temperature = ctx.saved_tensors
        # d(q / t) / dt = -q / t^2 = -out / t, and a sum over all that one temperature divided.
        rows = torch.linalg.vecdot(grad, out).to(temperature.dtype).unsqueeze(-1)  # (B, H, T, 1)
        of_temperature = -(rows / temperature).sum_to_size(temperature.shape)
        return grad / temperature.to(grad.dtype), of_temperature


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
