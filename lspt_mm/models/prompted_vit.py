"""A frozen Vision Transformer with prompts: the loop over blocks, freezing, what comes out."""

from contextlib import suppress
from typing import Callable, Dict, NamedTuple, Optional, Sequence, Tuple, Union

from mmpretrain.models.backbones.vision_transformer import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, cat, equal, nn, no_grad, zeros
from torch.compiler import is_exporting
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lspt_mm.checkpoints import load_backbone
from lspt_mm.checkpoints.prompt_only import UNKNOWN, restore_base_weights
from lspt_mm.errors import InputError
from lspt_mm.models.ops.sdpa import attention
from lspt_mm.models.prompted_block import compiled_block, keys_and_values, run_block
from lspt_mm.models.prompters.base import Prompter
from lspt_mm.models.tokens import Tokens
from lspt_mm.models.tuning import apply_tune, check_tune, train_tuned_only
from lspt_mm.models.vit_arguments import check_arch, check_out_indices, check_vit_arguments
from lspt_mm.registry import MODELS, PROMPTERS
from lspt_mm.utils.checks import check_bool, check_int


class BlockStep(NamedTuple):
    """What went into block ``number`` (1..L) and what came out, for those who look on.

    ``x_in``, ``x_out``: class, register and patch tokens (B, E+N, D). ``prompts_in``: (1 or B, P,
    D) or None. ``prompts_out``: (B, P, D), or None where nobody reads them.
    """

    number: int
    x_in: Tensor
    prompts_in: Optional[Tensor]
    x_out: Tensor
    prompts_out: Optional[Tensor]
    hw: Tuple[int, int]


@MODELS.register_module()
class PromptedViT(VisionTransformer):
    """mmpretrain's ``VisionTransformer``, tuned by prompts.

    Tokens are in the order ``[class token | registers | prompts | patches]``; prompts enter after
    the position embedding and have none of their own. Parameters of the ViT keep mmpretrain's
    names; those of the method are below ``prompter.``. Serves mmseg (``out_type='featmap'``) and
    mmpretrain alike. ``prompter=None`` is the plain ViT.

    Args:
        arch (str or dict): An architecture of mmpretrain's ``VisionTransformer`` (mind that its
            'small' is not the usual ViT-S: that is 'deit-small'), or a dict with embed_dims,
            num_layers, num_heads, feedforward_channels.
        prompter (dict, optional): ``dict(type=..., **arguments)`` of a method in
            :mod:`lspt_mm.models.prompters`. Width, depth and patch size are filled in.
        pretrained (str, optional): Path or URL of the ViT's weights (official MAE, MoCo v3, DINO,
            timm, mmpretrain, JAX), with ``#sha256=...`` behind it if it is to be checked, or
            ``timm:NAME``; read by ``init_weights()``. Position embeddings are resized to the grid
            of ``img_size``. ``init_cfg=dict(type='Pretrained', checkpoint=...)`` means the same.
        with_cp (bool or str): Activation checkpointing: ``True`` keeps what enters a block and runs
            the block again in the backward pass; ``'selective'`` keeps queries, keys, values and
            attention as well, and runs projection and MLP again.
        compile_blocks (bool): Run the blocks by ``torch.compile``: one graph for all blocks of the
            same shapes. The first steps take minutes.
        tune (str): What is trained: 'prompts' (with ``prompter=None``: nothing), 'nothing',
            'bias', 'prompts+bias', 'partial-K' (the last K blocks) or 'full'. Whatever has
            nothing to train stays in eval mode.
        out_indices (int or sequence of int): Blocks whose output is returned, counted from 0;
            negative ones count from the end. With a prompter the last block is one of them.
        out_type (str): For each of ``out_indices``, mmpretrain's 'raw' ``[class | patches]``
            (B, E+N, D), 'cls_token' (B, D), 'featmap' (B, D, H, W), 'avg_featmap' (B, D); and
            (B, D) each: 'avg_tokens', the mean of prompts and patches (the protocol of GaPT on
            MAE, arXiv 2306.05067), 'avg_patches', that of the patches, and 'avg_prompts', that of
            the prompts. These means are taken first and then normalised by the pre-trained final
            norm at the last block, where 'avg_featmap' averages normalised patches and passes a
            second norm, which no checkpoint has.
        num_registers (int): R, register tokens between class token and patches (arXiv 2309.16588),
            as the checkpoint has them; a distillation token is one, too. They are part of the
            frozen ViT and of no output.
        final_norm (bool): Whether the last block's output passes the final norm. As in
            mmpretrain it touches no earlier block's output.
        **kwargs: Further arguments of mmpretrain's ``VisionTransformer`` (img_size, patch_size,
            qkv_bias, norm_cfg, with_cls_token, interpolate_mode, ...), except ``frozen_stages``.

    Raises:
        ValueError: For a value that is none of the above.

    Attributes:
        altered (tuple or None): Tensors of the ViT that are not as the file of ``weights_from`` has
            them (resized to this model's grid, or without a counterpart there); None where that
            is not known.
        prompter_cfg (dict or None): The method's type and arguments.
        prompts_loaded (bool): Whether a state dict has brought prompts.
        weights_from (str or None): Where the ViT's weights were read from; None while they are
            random. Building without weights is legal, the hook ``BackboneWeightsHook`` refuses
            to run so, and so does a model in eval mode whose ``pretrained`` was not read, or that
            was given a checkpoint without the ViT.
    """

    #: Means that are taken before the final norm.
    POOLED = frozenset({'avg_tokens', 'avg_patches', 'avg_prompts'})
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
        num_layers = check_arch(arch, self.arch_zoo)
        check_tune(tune, num_layers)
        if 'frozen_stages' in kwargs:
            raise ValueError("frozen_stages: not used here; say tune='nothing' or tune='partial-K'")
        check_int('num_registers', num_registers, 0)
        for name, value in dict(final_norm=final_norm, compile_blocks=compile_blocks).items():
            check_bool(name, value)
        if with_cp != 'selective' and not isinstance(with_cp, bool):
            raise ValueError(f"with_cp={with_cp!r}: expected True, False or 'selective'")
        check_vit_arguments(kwargs)
        if not isinstance(out_type, str) or out_type not in self.OUT_TYPES:
            raise ValueError(f'out_type={out_type!r}: expected one of {sorted(self.OUT_TYPES)}')
        if out_type == 'avg_prompts' and prompter is None:
            raise ValueError("out_type='avg_prompts' needs a prompter, but prompter=None")
        if isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
            pretrained, init_cfg = pretrained or init_cfg.get('checkpoint', ''), None
        if not (pretrained is None or (isinstance(pretrained, str) and pretrained)):
            raise ValueError(f'pretrained={pretrained!r}: expected a path, a URL or None')
        super().__init__(
            arch,
            out_indices=check_out_indices(out_indices, num_layers),
            out_type=out_type,
            final_norm=final_norm,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.num_registers = num_registers
        if num_registers:
            self.register_tokens = nn.Parameter(zeros(1, num_registers, self.embed_dims))
        self.pretrained = pretrained
        self.weights_from = None
        self.altered = None
        self.prompts_loaded = False
        self._weights_lacking = False
        self.with_cp = with_cp
        self.compile_blocks = compile_blocks
        self.prompter = None if prompter is None else self.build_prompter(prompter)
        self.prompter_cfg = prompter and {**prompter, 'type': type(self.prompter).__name__}
        trained = tune if prompter is None else 'a prompter'
        if trained not in ('prompts', 'nothing') and max(self.out_indices) < num_layers - 1:
            raise ValueError(
                f'out_indices={out_indices!r}: with {trained} the last block ({num_layers - 1}, '
                'or -1) has to be among them; what is trained after the last one taken would never '
                'get a gradient. For a shallower ViT give arch fewer num_layers'
            )
        if out_type == 'avg_prompts' and min(self.out_indices) + 1 < self.prompter.start_block:
            raise ValueError(
                f"out_type='avg_prompts', out_indices={out_indices!r}: prompts enter at block "
                f'{self.prompter.start_block} (index {self.prompter.start_block - 1}), there are '
                'none before'
            )
        for layer in self.layers:
            for drop in (layer.attn.out_drop, layer.ffn.dropout_layer):
                if hasattr(drop, 'drop_prob'):
                    # NumPy's numbers, as mmpretrain has them, break graphs of torch.compile.
                    drop.drop_prob = float(drop.drop_prob)
            if layer.attn.scaled_dot_product_attention is F.scaled_dot_product_attention:
                layer.attn.scaled_dot_product_attention = attention
        self.tune = tune
        apply_tune(self, tune)

    @property
    def num_prefix_tokens(self) -> int:
        """E, how many tokens stand before prompts and patches (class token and registers)."""
        return self.num_extra_tokens + self.num_registers

    def build_prompter(self, cfg: dict) -> Prompter:
        """A prompter for this ViT from ``dict(type=..., **arguments)``.

        Raises:
            ValueError: For an unknown method, argument or value.
        """
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise ValueError(f"prompter={cfg!r}: expected None or dict(type='LSPT', ...)")
        method = cfg['type']
        if isinstance(method, str):
            with suppress(RuntimeError, ValueError):  # what MMEngine makes of '' and '.'
                method = PROMPTERS.get(method)
        if not (isinstance(method, type) and issubclass(method, Prompter)):
            known = ', '.join(sorted(PROMPTERS.module_dict))
            raise ValueError(f'prompter type={cfg["type"]!r}: expected one of {known}')
        known = method.argument_names()
        for name in cfg:
            if name not in known and name != 'type':
                raise ValueError(
                    f'prompter: {method.__name__} has no argument {name!r}; it has '
                    f'{", ".join(sorted(known))}'
                )
        # Built here and not by the registry, which would look for a scope `mmseg` in it.
        arguments = {name: value for name, value in cfg.items() if name != 'type'}
        return method(
            **arguments,
            embed_dims=self.embed_dims,
            num_layers=self.num_layers,
            patch_size=self.patch_embed.projection.kernel_size[0],
        )

    # ---- weights ------------------------------------------------------------------------------

    def init_weights(self) -> None:
        """Read ``pretrained``; without it, initialise at random as mmpretrain does.

        Raises:
            InputError: If the file cannot be read or does not fit; nothing is loaded then.
        """
        if self.pretrained is None:
            super().init_weights()
            return
        load_backbone(self, self.pretrained)

    def backbone_state_dict(self) -> Dict[str, Tensor]:
        """The ViT's own tensors under mmpretrain's names, without the prompter's."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith('prompter.')}

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        # Called for every way of loading, mmengine's own included.
        base = restore_base_weights(self, state_dict, prefix)
        unchanged = self.weights_from is not None and self._is_frozen_part_of(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if any(key.startswith(f'{prefix}prompter.') for key in state_dict):
            self.prompts_loaded = True
        # Only a state dict that holds the whole ViT makes it a trained one.
        if not unchanged and all(
            prefix + name in state_dict and state_dict[prefix + name].shape == value.shape
            for name, value in self.backbone_state_dict().items()
        ):
            self.weights_from, self.altered = UNKNOWN, None
        if base is not None:
            self.weights_from, self.altered = base
        self._weights_lacking = self.weights_from is None

    def _is_frozen_part_of(self, state_dict, prefix: str) -> bool:
        """Whether a state dict has this very ViT, as far as it is frozen."""
        trained = {name for name, p in self.named_parameters() if p.requires_grad}
        for name, value in self.backbone_state_dict().items():
            other = state_dict.get(prefix + name)
            if other is None or other.shape != value.shape:
                return False
            if name not in trained and not equal(other.to(value), value):
                return False
        return True

    def train(self, mode: bool = True) -> 'PromptedViT':
        """Train mode for what is tuned; frozen parts stay in eval mode."""
        super().train(mode)
        if mode:
            for child in self.children():
                # Dropout beside the blocks belongs to the ViT, not to the prompter.
                train_tuned_only(child, parent_tuned=self.tune == 'full')
        return self

    # ---- forward ------------------------------------------------------------------------------

    def forward(self, img: Tensor) -> Tuple[Tensor, ...]:
        """Images (B, 3, H, W) to one tensor per ``out_indices``, shaped as ``out_type`` says.

        Raises:
            InputError: As :meth:`unroll`.
        """
        return self.forward_with(img, self.prompter)

    def forward_with(self, img: Tensor, prompter: Optional[Prompter]) -> Tuple[Tensor, ...]:
        """:meth:`forward` with another prompter than the model's own, or none."""
        outs = []
        last = max(self.out_indices) + 1

        def collect(number, before, prompts, after, hw) -> None:
            if number - 1 in self.out_indices:
                outs.append(self._output(number, after, hw, cut=number == last))

        self._unroll(img, collect, prompter, last)
        return tuple(outs)

    def unroll(
        self, img: Tensor, visit: Callable[[BlockStep], None], prompted: bool = True
    ) -> None:
        """Run all blocks on images (B, 3, H, W), calling ``visit`` after each of them.

        ``prompted=False`` runs the plain ViT, whatever the prompter.

        Raises:
            InputError: In eval mode, if the ViT is random although ``pretrained`` names weights,
                or a checkpoint was loaded that lacks them.
        """

        def show(number, before, prompts, after, hw) -> None:
            visit(BlockStep(number, before.plain, prompts, after.plain, after.prompts, hw))

        self._unroll(img, show, self.prompter if prompted else None)

    def _unroll(
        self, img: Tensor, visit, prompter: Optional[Prompter], last: Optional[int] = None
    ) -> None:
        """Run the blocks, calling ``visit(number, before, prompts, after, hw)`` after each.

        ``before`` and ``after`` are :class:`Tokens`. ``last`` is the block to stop after, from
        which only what ``out_type`` reads comes out; None is all of all blocks.
        """
        self._check_weights()
        x, hw = self._embed(img)
        tokens = Tokens(x, self.num_prefix_tokens)
        start = self.num_layers + 1 if prompter is None else prompter.start_block
        prompts, state, temperature = None, None, None
        for number, layer in enumerate(self.layers[:last], 1):
            if number == start:
                prompts, state = prompter.first(tokens.patches)
            if number >= start:
                temperature = prompter.temperature(number)
            carried = self._reads_prompts(number, prompter)
            before = tokens.with_prompts(prompts if carried else None)
            asked = self._asked(number, before) if number == last else None
            read_only = None
            if prompts is not None and not carried:
                read_only = prompter.fused_keys_values.get(number, prompts)
            row = self._block(layer, before.row, read_only, temperature, asked)
            tokens = Tokens(row, before.num_extra, before.num_prompts)
            visit(number, before, prompts, tokens, hw)
            if start <= number < (last or self.num_layers):
                prompts, state = prompter.next(
                    number, prompts, tokens.prompts, tokens.patches, state
                )

    def _check_weights(self) -> None:
        """Raise InputError in eval mode, if the ViT is random without being meant to be."""
        if self.weights_from is not None or self.training:
            return
        if self._weights_lacking:
            raise InputError(
                'the checkpoint that was loaded lacks the weights of the ViT, which is random: '
                'load its weights first (pretrained= and init_weights()), or a checkpoint that '
                'holds or names them'
            )
        if self.pretrained is not None:
            raise InputError(
                f'pretrained={self.pretrained!r} has not been read, the ViT is random: call '
                'init_weights(), or load a checkpoint (to run on a random ViT on purpose: '
                'pretrained=None)'
            )

    def _block(self, *args) -> Tensor:
        run = compiled_block() if self.compile_blocks else run_block
        if not (self.with_cp and self.training):
            return run(*args)
        if self.with_cp == 'selective':
            return run(*args, keep_attention=True)
        return checkpoint(run, *args, use_reentrant=False)

    @no_grad()
    def fuse(self, prompter: Optional[Prompter] = None) -> None:
        """Compute once, for inference, what is the same for every image.

        That is keys and values of prompts that are the same for all images, and what the method
        precomputes (LSPT's input gates). Outputs stay the same, bit for bit; a run under autocast
        is fused under the same autocast. Until ``unfuse()`` the prompter gets no gradient through
        what is held, and writing to the weights it follows from has no effect. Unfused as well by
        ``train()``, ``to()`` and by loading a state dict.

        Args:
            prompter: One to be given to ``forward``; by default the model's own.

        Raises:
            InputError: In train mode.
        """
        prompter = self.prompter if prompter is None else prompter
        if prompter is None:
            return
        if self.training or prompter.training:
            raise InputError('fuse() is for inference: call eval() first')
        prompter.unfuse()
        prompter.fuse()
        patches = self.pos_embed[:, -1:]  # any will do: only their shape and type matter
        prompts, state = prompter.first(patches)
        for number in range(prompter.start_block, self.num_layers + 1):
            if prompts is None or not prompter.input_independent(number):
                return
            layer = self.layers[number - 1]
            if not self._reads_prompts(number, prompter):
                found = keys_and_values(layer.attn, layer.ln1, prompts.to(patches.dtype))
                prompter.fused_keys_values[number] = found
            if number == self.num_layers or prompter.reads_output(number):
                return
            # Read by no one, the block's output need not be known, nor the image.
            prompts, state = prompter.next(number, prompts, None, patches, state)

    def unfuse(self) -> None:
        """Drop what :meth:`fuse` holds."""
        if self.prompter is not None:
            self.prompter.unfuse()

    def _reads_prompts(self, number: int, prompter: Optional[Prompter]) -> bool:
        """Whether anyone reads what block ``number`` makes of its prompts."""
        if prompter is None:
            return False
        by_method = number < self.num_layers and prompter.reads_output(number)
        pooled = self.out_type in ('avg_tokens', 'avg_prompts')
        return by_method or (pooled and number - 1 in self.out_indices)

    def _embed(self, img: Tensor) -> Tuple[Tensor, Tuple[int, int]]:
        """Images to ``[class | registers | patches]`` (B, E+N, D) with positions, and the grid."""
        x, hw = self.patch_embed(img)
        if self.cls_token is not None:
            x = cat((self.cls_token.expand(x.size(0), -1, -1), x), dim=1)
        x = x + self._positions(hw)
        if self.num_registers:  # they have no position
            registers = self.register_tokens.expand(x.size(0), -1, -1)
            cls, patches = x[:, : self.num_extra_tokens], x[:, self.num_extra_tokens :]
            x = cat((cls, registers, patches), dim=1)
        return self.pre_norm(self.drop_after_pos(x)), hw

    def _positions(self, hw: Tuple[int, int]) -> Tensor:
        """Position embeddings of the class token and of a grid of patches ``hw``, (1, 1+N, D)."""
        if not is_exporting():
            return resize_pos_embed(
                self.pos_embed,
                self.patch_resolution,
                hw,
                mode=self.interpolate_mode,
                num_extra_tokens=self.num_extra_tokens,
            )
        # Without a look at the size, which may be any; a grid of its own size comes out as it is.
        extra, grid = self.pos_embed.tensor_split((self.num_extra_tokens,), dim=1)
        grid = grid.transpose(1, 2).unflatten(2, self.patch_resolution)  # (1, D, h, w)
        grid = F.interpolate(grid, hw, mode=self.interpolate_mode, align_corners=False)
        return cat((extra, grid.flatten(2).transpose(1, 2)), dim=1)

    def _asked(self, number: int, tokens: Tokens) -> Optional[Tuple[int, int]]:
        """First and last but one of block ``number``'s tokens that are read; None is all."""
        patches = tokens.num_extra + tokens.num_prompts
        if self.out_type == 'raw':
            return None
        if self.out_type == 'cls_token':
            return 0, 1
        if self.out_type == 'avg_prompts':
            if not tokens.num_prompts:
                raise InputError(
                    f"out_type='avg_prompts': block {number} has no prompts (they enter at block "
                    f'{self.prompter.start_block}, and a method may end them again); take the '
                    'block out of out_indices or choose another out_type'
                )
            return tokens.num_extra, patches
        if self.out_type == 'avg_tokens':
            # Before prompts enter, and without any, the mean is that of the patches.
            return tokens.num_extra, tokens.row.size(1)
        return patches, tokens.row.size(1)

    def _output(self, number: int, tokens: Tokens, hw: Tuple[int, int], cut: bool) -> Tensor:
        """``out_type`` of a block's tokens; ``cut``: those of them that are read, alone."""
        if self.out_type == 'raw':
            x = tokens.plain
            if self.num_registers:
                x = cat((x[:, : self.num_extra_tokens], tokens.patches), dim=1)
        elif cut:
            x = tokens.row
        else:
            first, end = self._asked(number, tokens)
            x = tokens.row[:, first:end]
        norm = self.ln1 if self.final_norm and number == self.num_layers else nn.Identity()
        if self.out_type in self.POOLED:
            return norm(x.mean(dim=1))  # (B, D)
        x = norm(x)
        if self.out_type == 'cls_token':
            return x[:, 0]
        if self.out_type == 'featmap':
            return x.transpose(1, 2).unflatten(2, hw)  # (B, D, h, w)
        if self.out_type == 'avg_featmap':
            return self.ln2(x.mean(dim=1))
        return x
