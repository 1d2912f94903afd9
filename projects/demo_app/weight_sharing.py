"""Models that have the same frozen ViT hold one copy of it.

:class:`lspt_mm.models.PromptSets` runs published prompt-only files as prompts alone: one module of
the ViT, one ``out_type`` and one set of ``out_indices`` for all, features out and no head. Behind a
service each run brings its own head, blocks read, data pipeline and window size, full checkpoints
as well as prompt-only ones, perhaps with biases or blocks of the ViT tuned or another image size;
and mmseg's and mmpretrain's own inference is to run on it. So each model stays a whole model, and
what is shared is the tensors that are alike, whatever the reason.
"""

from typing import Dict, Iterable, List

import torch
from torch import Tensor, nn

from lspt_mm.models import PromptedViT


class SharedWeights:
    """Tensors of ViTs, each kept once; models that have one bit for bit are given that one.

    Shared tensors must not be written to: the models are for inference, and frozen.
    """

    def __init__(self):
        self._known: Dict[tuple, List[Tensor]] = {}

    def share(self, vit: PromptedViT) -> int:
        """Replace tensors of ``vit`` that are known already; remember the others.

        The prompter keeps its own. Call it when weights are loaded and the device is chosen.

        Returns:
            int: Bytes of the tensors that were replaced.
        """
        spared = 0
        for name, own in [*vit.named_parameters(), *vit.named_buffers()]:
            if name.startswith('prompter.'):
                continue
            key = (name, tuple(own.shape), own.dtype, own.device)
            alike = self._known.setdefault(key, [])
            known = next((other for other in alike if torch.equal(other, own)), None)
            if known is None:
                alike.append(own)
                continue
            owner, _, leaf = name.rpartition('.')
            setattr(vit.get_submodule(owner), leaf, known)
            spared += own.numel() * own.element_size()
        return spared


def bytes_held(models: Iterable[nn.Module]) -> int:
    """Bytes of the models' parameters and buffers, each storage counted once."""
    sizes = {
        (str(tensor.device), tensor.untyped_storage().data_ptr()): tensor.untyped_storage().nbytes()
        for model in models
        for tensor in [*model.parameters(), *model.buffers()]
    }
    return sum(sizes.values())
