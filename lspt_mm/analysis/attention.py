"""Attention of class token and prompts over the image, block by block."""

from typing import List, NamedTuple, Optional

import torch
from torch import Tensor

from lspt_mm.errors import InputError
from lspt_mm.models.prompted_backbone import PromptedBackbone
from lspt_mm.models.tokens import BlockStep, Tokens


class BlockAttention(NamedTuple):
    """Attention of a block's class token and prompts over the grid of patches.

    ``cls``: (B, H, h, w), or None without a class token; ``prompts``: (B, P, H, h, w), or None
    before prompts enter. The weights on patches of one query sum to at most 1; the rest is on
    the class token and the prompts.
    """

    number: int
    cls: Optional[Tensor]
    prompts: Optional[Tensor]


@torch.no_grad()
def attention_maps(vit: PromptedBackbone, img: Tensor) -> List[BlockAttention]:
    """Compute the attention maps of all blocks for preprocessed images (B, 3, H, W).

    The weights are recomputed from each block's input, as fused attention never forms them. The
    last block includes the prompts' attention, even where the model uses prompts there as keys
    and values only.

    Returns:
        list: A :class:`BlockAttention` for each block, in their order.

    Raises:
        InputError: If the ViT is in eval mode and its pre-trained weights are not loaded.
    """
    maps: List[BlockAttention] = []
    vit.unroll(img, lambda step: maps.append(attention_of(vit, step)))
    return maps


@torch.no_grad()
def attention_of(vit: PromptedBackbone, step: BlockStep) -> BlockAttention:
    """Compute the attention of the block in one step of ``vit.unroll``."""
    block, extra = vit.block(step.number, adapted=step.prompted), vit.num_prefix_tokens
    if block is None:
        raise InputError(f'block {step.number} of this ViT is a single module: no attention maps')
    tokens = Tokens(step.x_in, extra).with_prompts(step.prompts_in)
    num_prompts = tokens.num_prompts
    q, k = block.project(block.norm1(tokens.x), 0, 2)  # (B, H, T, d)
    q = q[:, :, : extra + num_prompts]
    if step.rope is not None:  # these queries have no position
        k = block.rotate(k, step.rope, extra + num_prompts)
    k = k.repeat_interleave(block.groups, dim=1)
    scale = q.size(-1) ** -0.5
    further = 0
    prompter = vit.prompter if step.prompted else None
    if prompter is not None and step.number >= prompter.start_block:
        temperature = prompter.temperature(step.number)
        scale = scale if temperature is None else scale / temperature
        pair = prompter.keys_values(step.number)
        if pair is not None:
            further = pair[0].size(2)
            k = torch.cat((pair[0].to(k.dtype).expand(*k.shape[:2], -1, -1), k), dim=2)
    weights = (q @ k.transpose(-1, -2) * scale).softmax(dim=-1)
    # Columns of the patches only, on their grid: (B, H, E+P, h, w).
    weights = weights[..., further + extra + num_prompts :].unflatten(-1, step.hw)
    return BlockAttention(
        number=step.number,
        cls=weights[:, :, 0] if vit.num_extra_tokens else None,
        prompts=weights[:, :, extra:].transpose(1, 2) if num_prompts else None,
    )
