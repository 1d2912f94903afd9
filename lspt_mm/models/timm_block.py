"""timm's blocks, split into steps for prompts."""

from typing import List, Optional, Tuple

import torch
from timm.layers import apply_rot_embed_cat
from timm.layers.attention import Attention, AttentionRope
from timm.models.eva import EvaAttention, EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.models.lora import LoRA
from lspt_mm.models.ops.sdpa import attention

#: Tolerance of :func:`agrees`, in units of the largest output.
_RTOL, _ATOL = 1e-3, 1e-4


class TimmBlock:
    """A :class:`~lspt_mm.models.prompted_block.ViTBlock` on timm's ``Block`` or ``EvaBlock``.

    The block's own modules compute everything except queries, keys and values, which use parts of
    the packed or separate projections.
    """

    def __init__(self, block: nn.Module, lora: Optional[LoRA] = None):
        self.block, self.attn, self.norm1, self.lora = block, block.attn, block.norm1, lora
        self.groups = getattr(block.attn, 'num_kv_groups', 1)
        self.gated = block.attn.gate is not None

    @property
    def widths(self) -> Tuple[int, ...]:
        """Widths of queries, keys and values."""
        return tuple(len(weight) for weight in self.weights())

    def project(self, x: Tensor, first: int, end: int) -> List[Tensor]:  # noqa: D102
        attn = self.attn
        if attn.qkv is None:
            layers = (attn.q_proj, attn.k_proj, attn.v_proj)[first:end]
            found = [layer(x) for layer in layers]
            if self.lora is not None:
                added = self.lora(x, first, end).split(self.widths[first:end], dim=-1)
                found = [a + b for a, b in zip(found, added, strict=True)]
            found = [part.unflatten(2, (-1, attn.head_dim)).transpose(1, 2) for part in found]
        else:
            width, bias = attn.qkv.out_features // 3, _packed_bias(attn)
            rows = slice(first * width, end * width)
            packed = F.linear(x, attn.qkv.weight[rows], None if bias is None else bias[rows])
            if self.lora is not None:
                packed = packed + self.lora(x, first, end)
            packed = packed.unflatten(2, (end - first, attn.num_heads, -1))
            found = list(packed.permute(2, 0, 3, 1, 4).unbind(0))
        for part, norm in ((0, attn.q_norm), (1, attn.k_norm)):
            if first <= part < end:
                found[part - first] = norm(found[part - first])
        return found

    def rotate(self, x: Tensor, rope: Tensor, leading: int) -> Tensor:  # noqa: D102
        turned = apply_rot_embed_cat(x[:, :, leading:], rope, half=self.attn.rotate_half)
        return torch.cat((x[:, :, :leading], turned), dim=2) if leading else turned

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # noqa: D102
        dropout = self.attn.attn_drop
        return attention(q, k, v, dropout_p=dropout.p if dropout.training else 0.0)

    def branch(self, heads: Tensor, queries: Optional[Tensor]) -> Tensor:  # noqa: D102
        attn = self.attn
        heads = attn.norm(heads)
        if attn.gate is not None:
            heads = heads * attn.gate(queries).sigmoid()
        return attn.proj_drop(attn.proj(heads))

    def add_attention(self, x: Tensor, branch: Tensor) -> Tensor:  # noqa: D102
        return x + self.block.drop_path1(self._scaled(1, branch))

    def add_mlp(self, x: Tensor) -> Tensor:  # noqa: D102
        block = self.block
        return x + block.drop_path2(self._scaled(2, block.mlp(block.norm2(x))))

    def _scaled(self, which: int, x: Tensor) -> Tensor:
        """Apply LayerScale: a module in ``Block``, a parameter or None in ``EvaBlock``."""
        if isinstance(self.block, EvaBlock):
            gamma = getattr(self.block, f'gamma_{which}')
            return x if gamma is None else gamma * x
        return getattr(self.block, f'ls{which}')(x)

    def weights(self) -> Tuple[Tensor, ...]:  # noqa: D102
        attn = self.attn
        if attn.qkv is None:
            return attn.q_proj.weight, attn.k_proj.weight, attn.v_proj.weight
        return attn.qkv.weight.split(attn.qkv.out_features // 3)

    def query_key_weights(self) -> Tuple[Tensor, Tensor]:  # noqa: D102
        attn = self.attn
        if not isinstance(attn.q_norm, nn.Identity):
            raise ValueError('queries and keys pass a norm, so logits are not linear in prompts')
        if self.groups > 1:
            raise ValueError('several heads of queries share a head of keys')
        return self.weights()[:2]


def take_apart(block: nn.Module, lora: Optional[LoRA] = None) -> Optional[TimmBlock]:
    """Split a block into steps, or return None for types that compute something else."""
    # Not isinstance: subclasses compute something else.
    known = type(block) in (Block, EvaBlock) and type(block.attn) in (
        Attention, EvaAttention, AttentionRope
    )
    return TimmBlock(block, lora) if known else None


@torch.no_grad()
def agrees(block: TimmBlock, num_prefix: int, rotary: bool) -> bool:
    """Whether our attention of a block gives the same output as timm's, on random tokens.

    Releases of timm extend their attention. Only the attention branch is compared: a LayerScale
    near 0 would hide any difference.

    Args:
        block: The block, in eval mode.
        num_prefix: Leading tokens that are not rotated.
        rotary: Whether the attention takes rotary embeddings.
    """
    attn = block.attn
    like = next(attn.parameters())
    if like.is_meta:
        return True
    random = torch.Generator().manual_seed(0)
    shape = (1, num_prefix + 3, attn.proj.out_features)
    x = torch.randn(shape, generator=random).to(like)
    rope = torch.randn(3, 2 * attn.head_dim, generator=random).to(like) if rotary else None
    own = [(vector, vector.clone()) for vector in attn.parameters() if vector.dim() == 1]
    for vector, _ in own:  # biases are 0 and norms 1 until weights are read
        vector.copy_(torch.randn(vector.shape, generator=random))
    try:
        q, k, v = block.project(x, 0, 3)
        if rotary:
            q, k = (block.rotate(part, rope, num_prefix) for part in (q, k))
        k, v = (part.repeat_interleave(block.groups, dim=1) for part in (k, v))
        ours = block.branch(block.attend(q, k, v).transpose(1, 2).flatten(2), x)
        theirs = attn(x, rope=rope) if rotary else attn(x)
    finally:
        for vector, value in own:
            vector.copy_(value)
    return torch.allclose(ours, theirs, rtol=_RTOL, atol=_ATOL * float(theirs.abs().max()))


def with_unrotated(rope: Optional[Tensor], count: int) -> Optional[Tensor]:
    """Prepend ``count`` rows without rotation to a rotary embedding (.., N, 2 d)."""
    if rope is None or not count:
        return rope
    half = rope.size(-1) // 2
    row = torch.cat((rope.new_zeros(half), rope.new_ones(half)))
    return torch.cat((row.expand(*rope.shape[:-2], count, -1), rope), dim=-2)


def _packed_bias(attn: nn.Module) -> Optional[Tensor]:
    """Bias of queries, keys and values; EVA has separate ones, a buffer of zeros for keys."""
    if getattr(attn, 'q_bias', None) is not None:
        return torch.cat((attn.q_bias, attn.k_bias, attn.v_bias))
    return attn.qkv.bias
