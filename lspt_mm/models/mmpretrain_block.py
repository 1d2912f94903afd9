"""mmpretrain's encoder layer, split into steps for prompts."""

from typing import Optional, Tuple

from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor
from torch.nn import functional as F

from lspt_mm.models.lora import LoRA


class MMPretrainBlock:
    """A :class:`~lspt_mm.models.prompted_block.ViTBlock` that uses the layer's own parameters."""

    groups, gated = 1, False

    def __init__(self, layer: TransformerEncoderLayer, lora: Optional[LoRA] = None):
        self.layer, self.lora = layer, lora
        self.norm1 = layer.ln1
        self.widths = (layer.attn.embed_dims,) * 3

    def project(self, x: Tensor, first: int, end: int) -> Tuple[Tensor, ...]:  # noqa: D102
        attn = self.layer.attn
        if (first, end) == (0, 3):
            packed = attn.qkv(x)
        else:  # the rows of the packed projection are W_q, W_k, W_v
            rows = slice(first * attn.embed_dims, end * attn.embed_dims)
            bias = None if attn.qkv.bias is None else attn.qkv.bias[rows]
            packed = F.linear(x, attn.qkv.weight[rows], bias)
        if self.lora is not None:
            packed = packed + self.lora(x, first, end)
        packed = packed.unflatten(2, (end - first, attn.num_heads, -1))
        return packed.permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # noqa: D102
        attn = self.layer.attn
        dropout = attn.attn_drop if attn.training else 0.0
        return attn.scaled_dot_product_attention(q, k, v, dropout_p=dropout)

    def branch(self, heads: Tensor, queries: Optional[Tensor]) -> Tensor:  # noqa: D102
        attn = self.layer.attn
        return attn.proj_drop(attn.proj(heads))

    def add_attention(self, x: Tensor, branch: Tensor) -> Tensor:  # noqa: D102
        attn = self.layer.attn
        return x + attn.out_drop(attn.gamma1(branch))

    def add_mlp(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.layer.ffn(self.layer.ln2(x), identity=x)

    def weights(self) -> Tuple[Tensor, ...]:  # noqa: D102
        return self.layer.attn.qkv.weight.split(self.widths)

    def query_key_weights(self) -> Tuple[Tensor, Tensor]:  # noqa: D102
        return self.weights()[:2]
