"""Prompts that keep features near the class means of the frozen ViT (DAPT, arXiv 2309.03406)."""

from typing import Dict, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.models.observed import Observed
from lspt_mm.models.prompters.class_means import class_sums, take_shapes
from lspt_mm.models.prompters.wrapped import WrappedPrompter
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_number


@PROMPTERS.register_module()
class PrototypePrompt(WrappedPrompter):
    r"""Adds to any prompt method a loss on the distance of a feature from its class's prototype.

    With the pooled feature f of an image of class y:

    .. math::
        L = L_\text{head} + \frac{w}{B} \sum_b \left\lVert
        \frac{f_b}{\lVert f_b \rVert} - c_{y_b} \right\rVert^2

    :math:`c_y` is the mean of the unit features of the class's training images in the frozen ViT
    (``PromptInitHook``). It is no unit vector itself. This is the image half of DAPT, which tunes
    CLIP with VPT-shallow and has a second loss for the prompts of its text encoder. The authors'
    code takes the mean over the D components instead of their sum, so its weight is D times weaker
    than in the paper's formula; here it is the formula.

    An image of several classes is compared with the mean of their prototypes (ours); one without
    classes has no loss. Models whose output is a map have no vector to compare and are refused.

    Args:
        num_tokens (int): P of the other method. The paper's: 16.
        prompter (dict): The other method, ``dict(type=..., **arguments)`` without the arguments
            that stand here.
        weight (float): w, at least 0. The paper's: 0.1.
        dropout (float): Of the other method.
        start_block (int): First block with prompts, from 1.

    Attributes:
        prompter (Prompter): The other method.
        prototypes (Tensor): c, (K, D); a row of 0 for a class without images.
        prepared (Tensor): Whether they are known.

    Parameters in all: the other method's.
    """

    TRAINING_ONLY = ('dropout', 'weight')
    TRAINING_STATE = ('prototypes', 'prepared')
    PREPARES_FROM_ALL = True

    def __init__(
        self,
        num_tokens: int,
        prompter: dict,
        weight: float = 0.1,
        dropout: float = 0.0,
        start_block: int = 1,
        **vit,
    ):
        super().__init__(num_tokens, prompter, dropout, start_block, **vit)
        check_number('weight', weight, 0)
        self.weight = weight
        self.register_buffer('prototypes', torch.zeros(0, self.embed_dims))
        self.register_buffer('prepared', torch.tensor(False))

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        take_shapes(self, ('prototypes',), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @property
    def needs_preparation(self) -> bool:  # noqa: D102
        return not bool(self.prepared) or super().needs_preparation

    @torch.no_grad()
    def prepare(self, vit: nn.Module, batches) -> str:
        """Compute the prototypes from the frozen ViT's features of all images."""
        if vit.out_type in ('raw', 'featmap'):
            raise ValueError(
                f'PrototypePrompt: out_type={vit.out_type!r} is no vector per image, such as '
                "'cls_token' or 'avg_patches'; it serves classification only"
            )
        sums, counts = class_sums(vit, batches, lambda features: F.normalize(features, dim=-1))
        self.prototypes = sums / counts.clamp(min=1)[:, None]
        self.prepared.fill_(True)
        return f'prototypes of {int((counts > 0).sum())} classes from {int(counts.sum())} labels'

    def losses(
        self, vit: nn.Module, observed: Observed, labels: Optional[Tensor]
    ) -> Dict[str, Tensor]:
        """Of the distances."""
        found = super().losses(vit, observed, labels)
        if labels is None:
            raise ValueError('PrototypePrompt: the images have no classes, and its loss needs them')
        classes = labels & self.prototypes.any(1)  # (B, K)
        number = classes.sum(1, keepdim=True)
        prototypes = classes.to(self.prototypes) @ self.prototypes / number.clamp(min=1)
        features = F.normalize(observed.features[-1].to(prototypes), dim=-1)
        distances = (features - prototypes).square().sum(1)
        found['distance'] = self.weight * (distances * (number[:, 0] > 0)).mean()
        return found
