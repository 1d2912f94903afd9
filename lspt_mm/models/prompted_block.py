"""Runs one transformer block with prompts, on the parameters of any ViT.

Shapes: B images, T tokens, P prompts that are only keys and values, D width, H heads of width d.
"""

import functools
from typing import Callable, Optional, Protocol, Sequence, Tuple, Union

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lspt_mm.models.block_adapter import BlockAdapter
from lspt_mm.models.lora import LoRA
from lspt_mm.models.ops.temperature import divide_by_temperature

#: Prompts whose outputs are not read, (1 or B, P, D), or their :func:`keys_and_values`.
KVPrompts = Union[Tensor, Sequence[Tensor], None]


class ViTBlock(Protocol):
    """A pre-norm block split into steps, so that prompts enter where they cost least.

    Attributes:
        norm1: The first norm, (B, T, D) to the same.
        groups: Query heads for each head of keys and values.
        gated: Whether :meth:`branch` reads the queries' tokens.
        widths: Widths of queries, keys and values, of all heads together.
        lora: Update added to queries, keys and values, if any.
    """

    norm1: Callable[[Tensor], Tensor]
    groups: int
    gated: bool
    widths: Sequence[int]
    lora: Optional[LoRA]

    def project(self, x: Tensor, first: int, end: int) -> Sequence[Tensor]:
        """Parts ``first .. end - 1`` of queries (0), keys (1), values (2) of normed tokens.

        (B, T, D) to (B, H, T, d) each; norms of queries and keys are applied, rotations are not.
        """

    def rotate(self, x: Tensor, rope: Tensor, leading: int) -> Tensor:
        """Rotate queries or keys (B, H, T, d), except the first ``leading`` tokens.

        ``rope`` is for the others. Blocks of ViTs without rotary embeddings do not need this.
        """

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q k^T / sqrt(d)) v, with the block's dropout; (B, H, T, d)."""

    def branch(self, heads: Tensor, queries: Optional[Tensor]) -> Tensor:
        """Attention's output after gate and projection, (B, T, D).

        ``heads``: (B, T, H d), concatenated. ``queries``: the normed tokens of the queries,
        (B, T, D); they may be None unless ``gated``.
        """

    def add_attention(self, x: Tensor, branch: Tensor) -> Tensor:
        """Add the scaled :meth:`branch` to the tokens; (B, T, D) each."""

    def add_mlp(self, x: Tensor) -> Tensor:
        """Add the scaled output of the MLP to the tokens; (B, T, D)."""

    def weights(self) -> Sequence[Tensor]:
        """W_q, W_k and W_v, (width, D) each, as views of the parameters."""

    def query_key_weights(self) -> Tuple[Tensor, Tensor]:
        """W_q and W_k, (H d, D) each.

        Raises:
            ValueError: If the logits are not linear in them (norms of queries and keys).
        """


def block_forward(
    block: ViTBlock,
    x: Tensor,
    kv_prompts: KVPrompts = None,
    temperature: Optional[Tensor] = None,
    out_range: Optional[Tuple[int, int]] = None,
    recompute_mlp: bool = False,
    rope: Optional[Tensor] = None,
    leading: int = 0,
    extra: Optional[Sequence[Tensor]] = None,
    adapter: Optional[BlockAdapter] = None,
) -> Tensor:
    """Run one block.

    Args:
        block: The block; its parameters are used as they are.
        x: (B, T, D), with the prompts whose outputs are read.
        kv_prompts: Prompts that are only keys and values: they need no query, no output projection
            and no MLP. Those of (1, P, D) are normalised and projected once for the batch. The
            other tokens' outputs are the same, as nothing reads the output of these prompts.
        temperature: Divides the queries (attention shaping, GaPT): a scalar or (B, 1, 1, 1).
        out_range: Return only tokens ``out_range[0] .. out_range[1] - 1``, for the last block of a
            model that reads a part; the others are only keys and values. None: all.
        recompute_mlp: Keep only queries, keys, values and the attention's output for the backward
            pass and recompute what follows: 5 D numbers per token instead of 10 D, for a fifth of
            the products of a frozen layer's step.
        rope: Rotary embedding of all but the first ``leading`` of the T tokens, (T - leading, 2 d)
            or (H, T - leading, 2 d): sines, then cosines.
        leading: Number of leading tokens without a position in the image.
        extra: Further keys and values, (1 or B, 1 or H, P', d) each.
        adapter: Changes the tokens inside the block.

    Returns:
        Tensor: (B, T, D), or (B, out_range[1] - out_range[0], D).
    """
    normed = block.norm1(x)
    queries = normed if out_range is None else normed[:, out_range[0] : out_range[1]]
    if out_range is None and temperature is None:
        q, k, v = block.project(normed, 0, 3)  # each (B, H, T, d)
    else:
        # Separately, so that keys and values do not keep the undivided queries in memory.
        (q,) = block.project(queries, 0, 1)
        k, v = block.project(normed, 1, 3)
    if rope is not None:
        first, end = out_range or (0, x.size(1))
        rows = rope[..., max(first - leading, 0) : max(end - leading, 0), :]
        q = block.rotate(q, rows, min(max(leading - first, 0), end - first)).type_as(v)
        k = block.rotate(k, rope, leading).type_as(v)
    if isinstance(kv_prompts, Tensor):
        kv_prompts = keys_and_values(block, kv_prompts.to(x.dtype))
    added = [pair for pair in (kv_prompts, extra) if pair is not None]
    if added:
        k, v = (
            torch.cat([*(p.to(own.dtype).expand(*own.shape[:2], -1, -1) for p in parts), own], 2)
            for *parts, own in zip(*added, (k, v), strict=True)
        )  # (B, H, P+P'+T, d)
    if block.groups > 1:
        k, v = (part.repeat_interleave(block.groups, dim=1) for part in (k, v))
    if temperature is not None:
        q = divide_by_temperature(q, temperature)
    heads = block.attend(q, k, v).transpose(1, 2).flatten(2)
    if out_range is not None:
        x = x[:, out_range[0] : out_range[1]]
    queries = queries if block.gated or adapter is not None else None
    if adapter is not None:
        first, end = out_range or (0, leading)
        leading = min(max(leading - first, 0), end - first)
    args = (block, x, heads, queries, adapter, leading)
    return checkpoint(_finish, *args, use_reentrant=False) if recompute_mlp else _finish(*args)


def _finish(block, x, heads, queries, adapter, leading) -> Tensor:
    """Do all that follows attention."""
    out = block.branch(heads, queries)
    if adapter is None:
        return block.add_mlp(block.add_attention(x, out))
    x = block.add_attention(x, adapter.attention_output(out, queries))
    x = block.add_mlp(adapter.before_mlp(x, block))
    return adapter.block_output(x, leading)


def keys_and_values(block: ViTBlock, prompts: Tensor) -> Sequence[Tensor]:
    """Keys and values (1 or B, H, P, d) of prompts (1 or B, P, D), without rotation."""
    return block.project(block.norm1(prompts), 1, 3)


@functools.cache
def compiled_block_forward():
    """Compile :func:`block_forward`, once for all models of the process."""
    return torch.compile(block_forward)
