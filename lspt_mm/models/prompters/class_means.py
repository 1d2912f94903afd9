"""Means of image features by class, for methods whose losses compare with them."""

from typing import Callable, Iterable, Mapping, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn


def pooled(vit: nn.Module, out: Tensor) -> Tensor:
    """One vector per image, (B, D), from an output of a prompted ViT.

    A map (B, D, h, w) is averaged. Of tokens (B, 1+N, D) this is the class token, or the mean of
    the patches in a ViT without one.
    """
    if out.dim() == 4:
        return out.mean(dim=(2, 3))
    if out.dim() == 3:
        return out[:, 0] if vit.num_extra_tokens else out.mean(dim=1)
    return out


@torch.no_grad()
def class_sums(
    vit: nn.Module,
    batches: Iterable[Tuple[Tensor, Optional[Tensor]]],
    convert: Callable[[Tensor], Tensor],
) -> Tuple[Tensor, Tensor]:
    """Sums of the frozen ViT's image features by class.

    Args:
        vit: A :class:`PromptedViT`.
        batches: As in :meth:`Prompter.prepare`.
        convert: Applied to the features (B, D) of the images before they are added.

    Returns:
        tuple: sums (K, D) and numbers of images (K,), in float32. An image of several classes
        counts for each.

    Raises:
        ValueError: If there is no image or no class, or a feature is not a finite number.
    """
    sums = counts = None
    for images, labels in batches:
        if labels is None:
            raise ValueError('the images have no classes, and the loss of the method needs them')
        features = convert(pooled(vit, vit(images, prompter=False)[-1]).float())
        if not bool(features.isfinite().all()):
            raise ValueError(
                'features of the images are not finite numbers: the images, their normalisation '
                "or the ViT's weights are at fault"
            )
        labels = labels.to(features)
        sums = labels.T @ features + (0 if sums is None else sums)
        counts = labels.sum(0) + (0 if counts is None else counts)
    if sums is None or not counts.any():
        raise ValueError('no image has a class, and the loss of the method needs them')
    return sums, counts


def take_shapes(
    module: nn.Module, names: Sequence[str], state_dict: Mapping[str, Tensor], prefix: str
) -> None:
    """Give buffers the shapes that they have in a state dict which is about to be loaded."""
    for name in names:
        found, own = state_dict.get(prefix + name), getattr(module, name)
        if found is not None and found.shape != own.shape:
            setattr(module, name, own.new_zeros(found.shape))
