"""Runs blocks that several tuned ViTs have in common only once for the same images."""

from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from lspt_mm.models.prompted_backbone import Early, Embedded, PromptedBackbone


class _Done(NamedTuple):
    """``depths``: number of blocks to the tokens after them, if requested; 0 is the embedding."""

    img: Tensor
    embedded: Embedded
    depths: Dict[int, Tensor]


class SharedBlocks:
    """Computes the common first blocks of ViTs that share tensors.

    Blocks are shared up to the first one with prompts, LoRA or a tensor of its own. Results are
    looked up by the values of the images, so models with other inputs are computed as usual. For
    inference.

    Args:
        vits: Name to ViT; equal tensors must be shared (:class:`~lspt_mm.models.PromptSets`).

    Attributes:
        depths (dict): Name to the number of blocks in common with others.
    """

    def __init__(self, vits: Mapping[str, PromptedBackbone]):
        self._vits = dict(vits)
        self._groups: List[Tuple[PromptedBackbone, List[str]]] = []
        limits: Dict[str, int] = {}
        for name, vit in vits.items():
            for first, names in self._groups:
                limits[name] = _common(vit, first)
                if limits[name] >= 0:
                    names.append(name)
                    break
            else:
                limits[name] = _common(vit, vit)
                self._groups.append((vit, [name]))
        self.depths: Dict[str, int] = {}
        for _, names in self._groups:
            for name in names:
                others = [limits[other] for other in names if other != name]
                # A ViT may compute only part of its last block (``out_type``).
                last = max(self._vits[name].out_indices)
                self.depths[name] = min(limits[name], max(others, default=0), last)
        self._done: List[List[_Done]] = [[] for _ in self._groups]

    def clear(self) -> None:
        """Discard the results of all images."""
        self._done = [[] for _ in self._groups]

    @torch.no_grad()
    def early(self, name: str, img: Tensor) -> Early:
        """Output of the blocks that ``name`` shares, for images (B, 3, H, W)."""
        vit, depth = self._vits[name], self.depths[name]
        place = next(i for i, (_, names) in enumerate(self._groups) if name in names)
        done = self._find(place, img)
        if done is None:
            embedded = vit.embed(img)
            done = _Done(img, embedded, {0: embedded.tokens})
            self._done[place].append(done)
        start = max(d for d in done.depths if d <= depth)
        wanted = self._wanted(place)
        x, (_, hw, ropes) = done.depths[start], done.embedded
        for number in range(start + 1, depth + 1):
            rope = None if ropes is None else ropes[number - 1]
            x = vit.plain_block(number, x, rope)
            if number in wanted:
                done.depths[number] = x
        outs = {i + 1: done.depths[i + 1] for i in sorted(vit.out_indices) if i < depth}
        return Early(depth, Embedded(x, hw, ropes), outs)

    def _find(self, place: int, img: Tensor) -> Optional[_Done]:
        """Find earlier results for these images; windows come in the same order again."""
        known = self._done[place]
        for i, done in enumerate(known):
            if done.img.shape == img.shape and torch.equal(done.img, img):
                known.append(known.pop(i))  # to the end, so that the next window comes first
                return done
        return None

    def _wanted(self, place: int) -> set:
        names = self._groups[place][1]
        outs = {i + 1 for name in names for i in self._vits[name].out_indices}
        return outs | {self.depths[name] for name in names}


def _common(vit: PromptedBackbone, first: PromptedBackbone) -> int:
    """Number of first blocks that equal the plain ones of ``first``; -1 if embeddings differ."""
    if vit.settings() != first.settings():
        return -1
    depth = vit.num_layers if vit.prompter is None else vit.prompter.start_block - 1
    if vit.lora is not None:
        depth = 0
    theirs = first.own_tensors()
    for name, tensor in vit.own_tensors().items():
        if tensor is not theirs.get(name):
            depth = min(depth, vit.depth_of(name) - 1)
    return depth
