"""timm's Vision Transformers, tuned by prompts."""

import contextlib
import io
import logging
import sys
from typing import Any, Dict, Optional, Sequence, Tuple, Union

import timm
import torch
from mmengine.logging import print_log
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from lspt_mm.checkpoints.key_mapping import is_square, join_biases
from lspt_mm.models.features import POOLED
from lspt_mm.models.lora import PARTS
from lspt_mm.models.prompted_backbone import Embedded, PromptedBackbone, source_of
from lspt_mm.models.prompted_block import ViTBlock
from lspt_mm.models.timm_block import agrees, take_apart, with_unrotated
from lspt_mm.models.vit_arguments import check_common
from lspt_mm.registry import MODELS
from lspt_mm.utils.checks import check_size

#: Fixed arguments of ``timm.create_model``: images of any size, no head.
_FIXED = dict(num_classes=0, dynamic_img_size=True, dynamic_img_pad=True)


@MODELS.register_module()
class TimmPromptedViT(PromptedBackbone):
    """An unmodified ViT of timm, tuned by prompts, for mmseg and mmpretrain alike.

    Supports timm's ``VisionTransformer`` and ``Eva``: DINOv3, DINOv2, SigLIP 2, Perception Encoder,
    EVA-02, CLIP, AIMv2, DeiT III and others. Parameters keep timm's names, below ``vit.``. timm's
    usual blocks are split into steps (:class:`~lspt_mm.models.timm_block.TimmBlock`), so that
    prompts whose output is not read are only keys and values. Other blocks run as a whole.

    Args:
        model (str): Name in timm, such as ``'vit_small_patch16_dinov3.lvd1689m'``.
        img_size (int or tuple, optional): Size of images in pixels; the model's own by default.
            Other sizes work as well: position embeddings are resized in the forward pass, and
            incomplete patches are padded with zeros on the right and at the bottom.
        model_args (dict, optional): Further arguments of ``timm.create_model``, such as
            ``dict(depth=3)``.
        prompter, pretrained, with_cp, compile_blocks, tune, lora_parts, out_indices, final_norm: As
            of :class:`PromptedViT`.
        out_type (str): For each of ``out_indices`` 'raw' ``[class | patches]`` (B, 1+N, D),
            'cls_token' (B, D), 'featmap' (B, D, h, w), 'avg_tokens', 'avg_patches', 'avg_prompts'
            (B, D) as of :class:`PromptedViT`, or 'pooled' (B, D): timm's own pooling of class
            token, registers and patches, with its norms, after each of ``out_indices``.

    Raises:
        ValueError: For a value that is none of the above, a model that timm lacks, or one of
            another class than these two.
    """

    OUT_TYPES = frozenset({'raw', 'cls_token', 'featmap', 'pooled'}) | POOLED

    def __init__(
        self,
        model: str,
        *,
        img_size: Union[int, Tuple[int, int], None] = None,
        model_args: Optional[Dict[str, Any]] = None,
        prompter: Optional[dict] = None,
        pretrained: Optional[str] = None,
        with_cp: Union[bool, str] = False,
        compile_blocks: bool = False,
        tune: str = 'prompts',
        lora_parts: str = PARTS,
        out_indices: Union[int, Sequence[int]] = -1,
        out_type: str = 'cls_token',
        final_norm: Union[bool, str] = True,
        init_cfg: Optional[dict] = None,
    ):
        pretrained, init_cfg = source_of(pretrained, init_cfg)
        super().__init__(init_cfg)
        self.model = model
        self.vit = _create(model, img_size, {} if model_args is None else model_args)
        patches = self.vit.patch_embed
        self.embed_dims, self.num_layers = self.vit.embed_dim, len(self.vit.blocks)
        heads = (getattr(m, 'num_heads', None) for m in self.vit.blocks[0].modules())
        self.num_heads = next(number for number in heads if number)
        self.patch_size, self.img_size = tuple(patches.patch_size), tuple(patches.img_size)
        self.patch_resolution = tuple(patches.grid_size)
        self.num_prefix_tokens = self.vit.num_prefix_tokens
        self.num_extra_tokens = int(self.vit.cls_token is not None)
        counted = check_common(
            dict(prompter=prompter, pretrained=pretrained, with_cp=with_cp, tune=tune,
                 compile_blocks=compile_blocks, out_indices=out_indices, out_type=out_type,
                 final_norm=final_norm, lora_parts=lora_parts), self.num_layers, self.OUT_TYPES,
        )
        if out_type == 'cls_token' and not self.num_extra_tokens:
            raise ValueError(
                f"out_type='cls_token': {model} has no class token; expected 'pooled' or "
                "'avg_patches'"
            )
        if out_type == 'pooled' and final_norm is not True:
            raise ValueError(
                f"final_norm={final_norm!r}: out_type='pooled' is timm's pooling with its norms; "
                'expected True, or another out_type'
            )
        if out_type == 'pooled' and isinstance(self.vit, VisionTransformerDistilled):
            raise ValueError(f"out_type='pooled': {model} has two heads, and no pooling of its own")
        self._apart = self._taken_apart()
        self.set_up(
            prompter, pretrained, with_cp, compile_blocks, tune, counted, out_type, final_norm,
            lora_parts,
        )

    def _taken_apart(self) -> Tuple[bool, ...]:
        """Which blocks are split into steps."""
        mode = self.vit.training
        self.vit.eval()
        rotary = isinstance(self.vit, Eva) and self.vit.rope is not None
        found = []
        for block in self.vit.blocks:
            apart = take_apart(block)
            found.append(apart is not None and agrees(apart, self.num_prefix_tokens, rotary))
        self.vit.train(mode)
        if not all(found):
            kinds = sorted({type(block).__name__ for block, apart in
                            zip(self.vit.blocks, found, strict=True) if not apart})
            print_log(
                f'{self.model}: {found.count(False)} of {len(found)} blocks run as a whole '
                f'({", ".join(kinds)}): prompts go through all of their layers, which takes longer',
                logger='current', level=logging.WARNING,
            )
        return tuple(found)

    def init_random(self) -> None:
        """Keep timm's random initialisation, done by its constructor."""

    @property
    def kind(self) -> Dict[str, str]:
        """Name of the model: two of the same sizes may compute something else."""
        return {'model': self.model.partition('.')[0]}

    def translate(self, state: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Convert tensors from timm's or the authors' names to this model's."""
        attn = getattr(self.vit.blocks[0], 'attn', None)
        if getattr(attn, 'q_bias', None) is None:
            join_biases(state)
        pos, cls = state.get('pos_embed'), state.get('cls_token')
        apart = self.vit.no_embed_class and None not in (pos, cls) and 'mask_token' not in state
        if apart and is_square(pos.shape[1] - 1):  # mmpretrain's has a row for the class token
            state.update(cls_token=cls + pos[:, :1], pos_embed=pos[:, 1:])
        convert = sys.modules[type(self.vit).__module__].checkpoint_filter_fn
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it leaves out
            found = convert(state, self.vit)
        return {f'vit.{name}': tensor for name, tensor in found.items()}

    def train(self, mode: bool = True) -> 'TimmPromptedViT':
        """Set train mode for tuned parts; frozen parts stay in eval mode."""
        super().train(mode)
        for module in self.vit.modules():
            # Jitter of rotary embeddings and dropout are active only if the whole ViT is trained.
            if not any(True for _ in module.parameters()):
                module.training = mode and self.tune == 'full'
        return self

    def embed(self, img: Tensor) -> Embedded:  # noqa: D102
        vit = self.vit
        x = vit.patch_embed(img)
        hw = tuple(x.shape[1:3])
        found = vit._pos_embed(x)
        x, rope = found if isinstance(found, tuple) else (found, None)
        mixed = getattr(vit, 'rope_mixed', False)
        ropes = rope if mixed or rope is None else [rope] * self.num_layers
        return Embedded(vit.norm_pre(x), hw, ropes)

    def patches(self, img: Tensor) -> Tensor:  # noqa: D102
        return self.vit.patch_embed(img).flatten(1, -2)

    def take_block(self, number, lora=None) -> Optional[ViTBlock]:  # noqa: D102
        return take_apart(self.vit.blocks[number - 1], lora) if self._apart[number - 1] else None

    def whole(self, number, x, rope, num_prompts) -> Tensor:  # noqa: D102
        block = self.vit.blocks[number - 1]
        if rope is None:
            return block(x)
        return block(x, rope=with_unrotated(rope, num_prompts))

    @property
    def last_norm(self) -> nn.Module:  # noqa: D102
        # If timm has the pre-trained norm after a mean, it is the closest choice for maps.
        norm = self.vit.norm
        return self.vit.fc_norm if isinstance(norm, nn.Identity) else norm

    @property
    def unread(self) -> Tuple[str, ...]:  # noqa: D102
        if self.out_type == 'pooled':
            return ()
        norms = () if self.final_norm is True else ('vit.norm.', 'vit.fc_norm.')
        return ('vit.attn_pool.', *norms)

    def pool(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.vit.forward_head(self.vit.norm(x), pre_logits=True)

    def depth_of(self, name: str) -> int:  # noqa: D102
        first, _, rest = name.removeprefix('vit.').partition('.')
        if first == 'blocks':
            return int(rest.split('.')[0]) + 1
        return self.num_layers + 1 if first in ('norm', 'fc_norm', 'attn_pool') else 0


def _create(model: str, img_size, model_args: dict) -> nn.Module:
    if not isinstance(model_args, dict):
        raise ValueError(f'model_args={model_args!r}: expected a dict')
    if isinstance(model, nn.Module):
        raise ValueError(
            f"model: got {type(model).__name__}, expected timm's name of it; pass its weights as a "
            'file of its state_dict(), pretrained=FILE'
        )
    if not isinstance(model, str) or not timm.is_model(model.partition('.')[0]):
        raise ValueError(
            f"model={model!r}: timm {timm.__version__} has no model of this name; "
            "timm.list_models('*dinov3*') lists names"
        )
    taken = sorted({*_FIXED, 'img_size', 'pretrained'} & model_args.keys())
    if taken:
        raise ValueError(f'model_args: {", ".join(taken)} cannot be given there')
    size = {}
    if img_size is not None:
        check_size('img_size', img_size)
        size = dict(img_size=img_size)
    try:
        with torch.no_grad():
            vit = timm.create_model(model, pretrained=False, **_FIXED, **size, **model_args)
    except Exception as error:  # timm and its dependencies raise many types
        unknown = [name for name in _FIXED if name in str(error)]
        if unknown:
            raise ValueError(
                f'model={model!r}: takes no {", ".join(unknown)}, so it is not a ViT that prompts '
                'can be added to; expected a VisionTransformer or an Eva of timm'
            ) from error
        raise ValueError(f'model={model!r}, {size | model_args}: timm says {error}') from error
    if not isinstance(vit, (VisionTransformer, Eva)):
        raise ValueError(
            f'model={model!r}: is a {type(vit).__name__}, not a ViT that prompts can be added to; '
            'expected a VisionTransformer or an Eva of timm'
        )
    return vit
