"""Fast attention over few tokens on a CPU, where PyTorch's fused backward pass is slow."""

from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Most keys for the explicit form: its memory grows with the square. At 73 tokens, on
#: one core with bfloat16 units, forward and backward took 12 ms against 49 ms (64 images, 3 heads);
#: at 197 in float32 it is 85 against 79 ms (16 images, 12 heads), at 1124 twice the fused kernel's.
FEW = 128


def attention(
    q: Tensor, k: Tensor, v: Tensor, attn_mask: Optional[Tensor] = None, dropout_p: float = 0.0
) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for q (B, H, T, d) and k, v (B, H, S, d).

    PyTorch's ``scaled_dot_product_attention``, except for short sequences on a CPU: those are
    computed as written, 16-bit numbers in float32, with or without gradients.
    """
    exporting = torch.compiler.is_exporting()
    short = not exporting and k.size(-2) <= FEW and q.device.type == 'cpu'
    if attn_mask is not None or dropout_p or not short:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, dropout_p=dropout_p)
    dtype = torch.promote_types(q.dtype, torch.float32)
    scale = q.size(-1) ** -0.5
    heads = q.shape[:2]
    # The heads' strided views become contiguous in the same pass.
    whole = {'dtype': dtype, 'memory_format': torch.contiguous_format}
    wide_q, wide_k, wide_v = (x.to(**whole).flatten(0, 1) for x in (q, k, v))  # (B*H, T|S, d)
    nothing = wide_q.new_zeros(1).expand(wide_q.size(0), wide_q.size(1), wide_k.size(1))
    with torch.autocast('cpu', enabled=False):
        logits = torch.baddbmm(nothing, wide_q, wide_k.transpose(1, 2), beta=0, alpha=scale)
        return (logits.softmax(dim=-1) @ wide_v).unflatten(0, heads).to(v.dtype)


def use_fast_attention(layers: nn.ModuleList) -> None:
    """Make mmpretrain's encoder layers use :func:`attention` and compile without graph breaks."""
    for layer in layers:
        for drop in (layer.attn.out_drop, layer.ffn.dropout_layer):
            if hasattr(drop, 'drop_prob'):
                # In mmpretrain it is a NumPy number, which breaks graphs of torch.compile.
                drop.drop_prob = float(drop.drop_prob)
        if layer.attn.scaled_dot_product_attention is F.scaled_dot_product_attention:
            layer.attn.scaled_dot_product_attention = attention
