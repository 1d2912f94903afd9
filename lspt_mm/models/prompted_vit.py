"""A frozen Vision Transformer with prompts: embedding, the loop over blocks, outputs."""

from typing import Callable, Optional, Sequence, Tuple, Union

from mmpretrain.models.backbones.vision_transformer import VisionTransformer
from torch import Tensor, cat, nn, zeros
from torch.utils.checkpoint import checkpoint

from lspt_mm.checkpoints import load_backbone
from lspt_mm.checkpoints.backbone import BackboneDescription, BackboneWeights
from lspt_mm.checkpoints.prompt_only import restore_base_weights
from lspt_mm.models.description import describe, vit_size
from lspt_mm.models.features import POOLED, READ_PROMPTS, features, out_range
from lspt_mm.models.fuse import fuse
from lspt_mm.models.ops.positions import position_embedding
from lspt_mm.models.ops.sdpa import use_fast_attention
from lspt_mm.models.prompted_block import block_forward, compiled_block_forward
from lspt_mm.models.prompters.base import Prompter, build_prompter
from lspt_mm.models.tokens import BlockStep, Tokens
from lspt_mm.models.tuning import apply_tune, train_tuned_only
from lspt_mm.models.vit_arguments import check_arguments, check_outputs
from lspt_mm.registry import MODELS


@MODELS.register_module()
class PromptedViT(VisionTransformer):
    """mmpretrain's ``VisionTransformer``, tuned by prompts, for mmseg and mmpretrain alike.

    Tokens are in the order ``[class token | registers | prompts | patches]``; prompts enter after
    the position embedding and have none of their own. Parameters of the ViT keep mmpretrain's
    names; those of the method are below ``prompter.``.

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
        with_cp (bool or str): Activation checkpointing: ``True`` runs each block again in the
            backward pass; ``'selective'`` keeps attention, and runs projection and MLP again.
        compile_blocks (bool): Run the blocks by ``torch.compile``; the first steps take minutes.
        tune (str): What is trained: 'prompts', 'nothing', 'bias', 'prompts+bias', 'partial-K' (the
            last K blocks) or 'full'. All else stays in eval mode.
        out_indices (int or sequence of int): Blocks whose output is returned, from 0; negative
            ones count from the end. With a prompter the last block is one of them.
        out_type (str): For each of ``out_indices`` mmpretrain's 'raw' ``[class | patches]``
            (B, 1+N, D), 'cls_token' (B, D), 'featmap' (B, D, h, w) or 'avg_featmap' (B, D); or
            (B, D) each: 'avg_tokens', the mean of prompts and patches (GaPT's protocol for MAE,
            arXiv 2306.05067), 'avg_patches', 'avg_prompts'. These three pass the pre-trained final
            norm after the mean; 'avg_featmap' has a second norm, which no checkpoint has.
        num_registers (int): Register tokens (arXiv 2309.16588) that the checkpoint has; a
            distillation token counts as one. They are of no output.
        final_norm (bool): Whether the last block's output passes the final norm, as in mmpretrain.
        **kwargs: Further arguments of mmpretrain's ``VisionTransformer`` (img_size, patch_size,
            qkv_bias, norm_cfg, with_cls_token, interpolate_mode, ...), except ``frozen_stages``.

    Raises:
        ValueError: For a value that is none of the above.

    Attributes:
        prompter_cfg (dict or None): The method's type and arguments.
        weights: ``BackboneWeights``. Where the ViT's weights come from. Building without weights is
            legal; the hook ``BackboneWeightsHook`` refuses to run so, and so does a model in eval
            mode whose ``pretrained`` was not read, or that was given a checkpoint without the ViT.
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
        out_indices: Union[int, Sequence[int]] = -1,
        out_type: str = 'cls_token',
        num_registers: int = 0,
        final_norm: bool = True,
        init_cfg: Optional[dict] = None,
        **kwargs,
    ):
        if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
            pretrained, init_cfg = pretrained or init_cfg.get('checkpoint', ''), None
        own = dict(
            arch=arch, prompter=prompter, pretrained=pretrained, with_cp=with_cp, tune=tune,
            compile_blocks=compile_blocks, out_indices=out_indices, out_type=out_type,
            num_registers=num_registers, final_norm=final_norm,
        )  # fmt: skip
        counted = check_arguments({**kwargs, **own}, self.arch_zoo, self.OUT_TYPES)
        super().__init__(
            arch, out_indices=counted, out_type=out_type, final_norm=final_norm, init_cfg=init_cfg,
            **kwargs,
        )  # fmt: skip
        self.num_registers = num_registers
        if num_registers:
            self.register_tokens = nn.Parameter(zeros(1, num_registers, self.embed_dims))
        self.pretrained, self.weights = pretrained, BackboneWeights()
        self.with_cp, self.compile_blocks, self.tune = with_cp, compile_blocks, tune
        self.prompter = self.prompter_cfg = None
        if prompter is not None:
            self.prompter = build_prompter(prompter, **vit_size(self))
            self.prompter_cfg = {**prompter, 'type': type(self.prompter).__name__}
        check_outputs(self)
        use_fast_attention(self.layers)
        apply_tune(self, tune)

    @property
    def num_prefix_tokens(self) -> int:
        """E, how many tokens stand before prompts and patches (class token and registers)."""
        return self.num_extra_tokens + self.num_registers

    # ---- weights ------------------------------------------------------------------------------

    def init_weights(self) -> None:
        """Read ``pretrained``, or raise InputError; without it, initialise as mmpretrain does."""
        if self.pretrained is None:
            super().init_weights()
        else:
            load_backbone(self, self.pretrained)

    def describe(self) -> BackboneDescription:
        """All that checkpoint code needs to know, as plain data."""
        return describe(self)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        # Called by every way of loading, MMEngine's own included.
        weights = restore_base_weights(self.describe(), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.weights = weights

    def train(self, mode: bool = True) -> 'PromptedViT':
        """Train mode for what is tuned; frozen parts stay in eval mode."""
        super().train(mode)
        if mode:
            for child in self.children():
                # Dropout beside the blocks belongs to the ViT, not to the prompter.
                train_tuned_only(child, parent_tuned=self.tune == 'full')
        return self

    def fuse(self, prompter: Optional[Prompter] = None) -> None:
        """Compute once, for inference, what is the same for every image.

        Outputs stay the same, bit for bit (fuse under the autocast that inference runs under).
        ``unfuse()``, ``train()``, ``to()`` and loading a state dict undo it. ``prompter``: one to
        be given to :meth:`forward`. Raises InputError in train mode.
        """
        prompter = self.prompter if prompter is None else prompter
        if prompter is not None:
            fuse(self, prompter)

    def unfuse(self) -> None:
        """Drop what :meth:`fuse` holds."""
        if self.prompter is not None:
            self.prompter.unfuse()

    # ---- forward ------------------------------------------------------------------------------

    def forward(self, img: Tensor, prompter: Union[Prompter, bool, None] = None) -> Tuple:
        """Images (B, 3, H, W) to one tensor per ``out_indices``, shaped as ``out_type`` says.

        ``prompter`` takes the place of the model's own; False is none.

        Raises:
            InputError: In eval mode, if the ViT is random although ``pretrained`` names weights,
                or a checkpoint was loaded that lacks them.
        """
        outs, last = [], max(self.out_indices) + 1

        def collect(number, before, prompts, after, hw) -> None:
            if number - 1 in self.out_indices:
                norm = self.ln1 if self.final_norm and number == self.num_layers else nn.Identity()
                outs.append(features(
                    self.out_type, after, number, hw, norm, getattr(self, 'ln2', None),
                    self.num_extra_tokens, cut=number == last,
                ))  # fmt: skip

        self._unroll(img, collect, prompter, last)
        return tuple(outs)

    def unroll(
        self, img: Tensor, visit: Callable[[BlockStep], None], prompted: bool = True
    ) -> None:
        """Run all blocks on images (B, 3, H, W), calling ``visit`` after each of them.

        ``prompted=False`` runs the plain ViT, whatever the prompter. Raises as :meth:`forward`.
        """

        def show(number, before, prompts, after, hw) -> None:
            x_in, x_out = before.without_prompts, after.without_prompts
            visit(BlockStep(number, x_in, prompts, x_out, after.prompts, hw))

        self._unroll(img, show, None if prompted else False)

    def _unroll(self, img: Tensor, visit: Callable, prompter, last: Optional[int] = None) -> None:
        """Run the blocks, calling ``visit(number, before, prompts, after, hw)`` after each.

        ``before`` and ``after`` are :class:`Tokens`. ``last`` is the block to stop after, from
        which only what ``out_type`` reads comes out; None is all of all blocks.
        """
        if not self.training:
            self.weights.check(self.pretrained)
        prompter = (self.prompter if prompter is None else prompter) or None
        x, hw = self._embed(img)
        tokens = Tokens(x, self.num_prefix_tokens)
        start = self.num_layers + 1 if prompter is None else prompter.start_block
        prompts, state, temperature = None, None, None
        for number, layer in enumerate(self.layers[:last], 1):
            if number == start:
                prompts, state = prompter.first(tokens.patches)
            if number >= start:
                temperature = prompter.temperature(number)
            as_tokens = self.reads_prompts(number, prompter)
            before = tokens.with_prompts(prompts if as_tokens else None)
            kv_prompts = None
            if prompts is not None and not as_tokens:
                kv_prompts = prompter.fused_keys_values.get(number, prompts)
            read = out_range(self.out_type, before, number) if number == last else None
            x = self._block(layer, before.x, kv_prompts, temperature, read)
            tokens = Tokens(x, before.num_prefix, before.num_prompts)
            visit(number, before, prompts, tokens, hw)
            if start <= number < (last or self.num_layers):
                out, patches = tokens.prompts, tokens.patches
                prompts, state = prompter.next(number, prompts, out, patches, state)

    def _block(self, *args) -> Tensor:
        run = compiled_block_forward() if self.compile_blocks else block_forward
        if not (self.with_cp and self.training):
            return run(*args)
        if self.with_cp == 'selective':
            return run(*args, recompute_mlp=True)
        return checkpoint(run, *args, use_reentrant=False)

    def reads_prompts(self, number: int, prompter: Optional[Prompter]) -> bool:
        """Whether anyone reads what block ``number`` makes of its prompts."""
        if prompter is None:
            return False
        by_method = number < self.num_layers and prompter.reads_output(number)
        return by_method or (self.out_type in READ_PROMPTS and number - 1 in self.out_indices)

    def _embed(self, img: Tensor) -> Tuple[Tensor, Tuple[int, int]]:
        """Images to ``[class | registers | patches]`` (B, E+N, D) with positions, and the grid."""
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
        return self.pre_norm(self.drop_after_pos(x)), hw
