"""Common parts of segmentation recipes, whatever the data: methods, sizes, a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Optional

from lspt_mm.errors import InputError
from lspt_mm.recipes.methods import PLAIN, Method, Methods

if TYPE_CHECKING:
    from lspt_mm.recipes.vits import ViT

#: Values of ``method``. `linear` is not among them: without prompts, `frozen` is UPerNet alone.
METHODS = Methods({'frozen': Method('No prompts', tune='nothing'), **PLAIN})


def whole_patches(crop: Optional[int], patch: int) -> int:
    """``crop``, or by default the largest multiple of ``patch`` up to 512.

    Raises:
        InputError: If it is not a multiple: patches of 14 do not divide 512.
    """
    if crop is None:
        return 512 // patch * patch
    if crop % patch:
        low = max(patch, crop // patch * patch)
        raise InputError(
            f'crop={crop}: expected a multiple of the patch size {patch}, such as {low}'
        )
    return crop


def tuned_vit(
    vit: ViT,
    method: str,
    crop: int,
    num_tokens: Optional[int],
    rank: Optional[int],
) -> Dict[str, Any]:
    """Arguments of a backbone for images of ``crop`` pixels, with ``method``'s prompter or LoRA.

    Raises:
        InputError: If ``num_tokens`` or ``rank`` is given for a method that has none.
    """
    chosen = METHODS[method]
    if rank is not None and 'rank' not in chosen.extra_args:
        raise InputError(f'rank={rank}: method={method} has none')
    prompter = chosen.prompter
    if prompter:
        patches = (crop // vit.patch_size) ** 2
        tokens = num_tokens or max(1, min(prompter['num_tokens'], patches // 10))
        prompter = dict(prompter, num_tokens=tokens)
        if chosen.recipe == 'bpt':
            prompter['rank'] = rank or chosen.default_rank(tokens, vit.measures['embed_dims'])
        elif rank is not None:
            prompter['rank'] = rank
    elif num_tokens is not None:
        raise InputError(f'num_tokens={num_tokens}: method={method} has no prompts')
    return dict(
        **vit.backbone, img_size=crop, pretrained=vit.source, tune=chosen.tune_of_rank(rank),
        prompter=prompter,
    )


def tuned_keys(method: str, lr_mult: float) -> Dict[str, dict]:
    """``custom_keys`` of what is trained in the ViT; prompts and LoRA have no weight decay."""
    chosen = METHODS[method]
    if method == 'frozen':
        return {}
    keys = {}
    if chosen.prompter is not None:
        keys['prompter'] = dict(lr_mult=lr_mult, decay_mult=0.0)
    if chosen.tune != 'prompts':
        undecayed = dict(decay_mult=0.0) if 'lora' in chosen.tune else {}
        keys['backbone'] = dict(lr_mult=lr_mult, **undecayed)
    return keys


def ramp_and_decay(iters: int, warmup: int) -> List[dict]:
    """A linear ramp, then a linear decay to 0; for fewer than 20 iterations the decay alone."""
    if iters < 20:  # a ramp of a single step would never leave its start
        warmup = 0
    ramp = dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=warmup)
    return [
        *([ramp] if warmup else []),
        dict(type='PolyLR', eta_min=0.0, power=1.0, begin=warmup, end=iters, by_epoch=False),
    ]
