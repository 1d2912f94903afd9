"""mmpretrain's Vision Transformer, tuned by prompts."""

from typing import Optional, Sequence, Tuple, Union

from mmpretrain.models.backbones.vision_transformer import VisionTransformer
from torch import Tensor, cat, nn, zeros

from lspt_mm.models.features import POOLED
from lspt_mm.models.lora import PARTS
from lspt_mm.models.mmpretrain_block import MMPretrainBlock
from lspt_mm.models.ops.positions import position_embedding
from lspt_mm.models.ops.sdpa import use_fast_attention
from lspt_mm.models.prompted_backbone import Embedded, PromptedBackbone, source_of
from lspt_mm.models.prompted_block import ViTBlock
from lspt_mm.models.vit_arguments import check_arguments
from lspt_mm.registry import MODELS


@MODELS.register_module()
class PromptedViT(PromptedBackbone, VisionTransformer):
    """mmpretrain's ``VisionTransformer``, tuned by prompts, for mmseg and mmpretrain alike.

    Parameters of the ViT keep mmpretrain's names; those of the method are below ``prompter.``. For
    attributes and the order of tokens, see :class:`PromptedBackbone`.

    Args:
        arch (str or dict): An architecture of mmpretrain's ``VisionTransformer`` (its 'small' is
            not the usual ViT-S: that is 'deit-small'), or a dict with embed_dims, num_layers,
            num_heads, feedforward_channels.
        prompter (dict, optional): ``dict(type=..., **arguments)`` of a method in
            :mod:`lspt_mm.models.prompters`; None is the plain ViT.
        pretrained (str, optional): Path, URL (``#sha256=...`` at its end is checked) or
            ``timm:NAME`` of the ViT's weights, read by ``init_weights()``: official MAE, MoCo v3,
            DINO, timm, mmpretrain and JAX files. Position embeddings are resized to the grid of
            ``img_size``. ``init_cfg=dict(type='Pretrained', checkpoint=...)`` means the same.
        with_cp (bool or str): Activation checkpointing: ``True`` recomputes each block in the
            backward pass; ``'selective'`` keeps attention and recomputes projection and MLP.
        compile_blocks (bool): Compile the blocks (``torch.compile``); the first steps take minutes.
        tune (str): What to train: 'prompts', 'nothing', 'bias', 'lora-R' (LoRA of rank R on
            queries, keys and values), 'prompts+bias', 'prompts+lora-R', 'partial-K' (the last K
            blocks) or 'full'. 'bias-NAME-NAME' and 'prompts+bias-NAME-NAME' train some of the
            blocks' biases: q, k, v, proj, fc1, fc2, norm1, norm2. Of a packed qkv each of the first
            three means all: keys' biases do not change attention, and a part cannot be trained
            alone. All other modules stay in eval mode.
        lora_parts (str): Projections with LoRA: letters of 'qkv'.
        out_indices (int or sequence of int): Blocks whose output is returned, from 0; negative
            ones count from the end. With a prompter they must include the last block.
        out_type (str): For each of ``out_indices`` mmpretrain's 'raw' ``[class | patches]``
            (B, 1+N, D), 'cls_token' (B, D), 'featmap' (B, D, h, w) or 'avg_featmap' (B, D); or
            (B, D) each: 'avg_tokens', the mean of prompts and patches (GaPT's protocol for MAE,
            arXiv 2306.05067), 'avg_patches', 'avg_prompts'. These three apply the pre-trained final
            norm after the mean; 'avg_featmap' has a second norm, which no checkpoint has.
        num_registers (int): Register tokens (arXiv 2309.16588) that the checkpoint has; a
            distillation token counts as one. They are not part of any output.
        final_norm (bool or str): Whether the last block's output passes the final norm, as in
            mmpretrain. ``'identity'``: a norm with weight 1 and bias 0 instead of the pre-trained
            one. The code of VPT and VFPT has it with MAE, whose files lack the norm that the code
            looks for, so that the published rows of VPT are with it.
        **kwargs: Further arguments of mmpretrain's ``VisionTransformer`` (img_size, patch_size,
            qkv_bias, norm_cfg, with_cls_token, interpolate_mode, ...), except ``frozen_stages``.

    Raises:
        ValueError: For a value that is none of the above.
    """

    OUT_TYPES = VisionTransformer.OUT_TYPES | POOLED

    def __init__(
        self,
        arch: Union[str, dict] = 'base',
        *,
        prompter: Optional[dict] = None,
        pretrained: Optional[str] = None,
        with_cp: Union[bool, str] = False,
        compile_blocks: bool = False,
        tune: str = 'prompts',
        lora_parts: str = PARTS,
        out_indices: Union[int, Sequence[int]] = -1,
        out_type: str = 'cls_token',
        num_registers: int = 0,
        final_norm: Union[bool, str] = True,
        init_cfg: Optional[dict] = None,
        **kwargs,
    ):
        pretrained, init_cfg = source_of(pretrained, init_cfg)
        own = dict(
            arch=arch, prompter=prompter, pretrained=pretrained, with_cp=with_cp, tune=tune,
            compile_blocks=compile_blocks, out_indices=out_indices, out_type=out_type,
            num_registers=num_registers, final_norm=final_norm, lora_parts=lora_parts,
        )
        counted = check_arguments({**kwargs, **own}, self.arch_zoo, self.OUT_TYPES)
        super().__init__(
            arch, out_indices=counted, out_type=out_type, final_norm=bool(final_norm),
            init_cfg=init_cfg, **kwargs,
        )
        self.num_registers = num_registers
        if num_registers:
            self.register_tokens = nn.Parameter(zeros(1, num_registers, self.embed_dims))
        use_fast_attention(self.layers)
        self.set_up(
            prompter, pretrained, with_cp, compile_blocks, tune, counted, out_type, final_norm,
            lora_parts,
        )

    @property
    def num_heads(self) -> int:
        """H."""
        return self.layers[0].attn.num_heads

    @property
    def patch_size(self) -> Tuple[int, int]:
        """Height and width of a patch in pixels."""
        return tuple(self.patch_embed.projection.kernel_size)

    @property
    def num_prefix_tokens(self) -> int:
        """E, class token and registers."""
        return self.num_extra_tokens + self.num_registers

    def embed(self, img: Tensor) -> Embedded:  # noqa: D102
        x, hw = self.patch_embed(img)
        if self.cls_token is not None:
            x = cat((self.cls_token.expand(x.size(0), -1, -1), x), dim=1)
        num_cls = self.num_extra_tokens
        x = x + position_embedding(
            self.pos_embed, self.patch_resolution, hw, self.interpolate_mode, num_cls
        )
        if self.num_registers:  # they have no position
            registers = self.register_tokens.expand(x.size(0), -1, -1)
            x = cat((x[:, :num_cls], registers, x[:, num_cls:]), dim=1)
        return Embedded(self.pre_norm(self.drop_after_pos(x)), hw)

    def patches(self, img: Tensor) -> Tensor:  # noqa: D102
        return self.patch_embed(img)[0]

    def take_block(self, number, lora=None) -> ViTBlock:  # noqa: D102
        return MMPretrainBlock(self.layers[number - 1], lora)

    @property
    def last_norm(self) -> nn.Module:  # noqa: D102
        return self.ln1

    @property
    def unread(self) -> Tuple[str, ...]:  # noqa: D102
        return ('ln1.',) if self.final_norm == 'identity' else ()

    def pool(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.ln2(x.mean(dim=1))

    def depth_of(self, name: str) -> int:  # noqa: D102
        if name.startswith('layers.'):
            return int(name.split('.')[1]) + 1
        return self.num_layers + 1 if name.startswith(('ln1.', 'ln2.')) else 0
