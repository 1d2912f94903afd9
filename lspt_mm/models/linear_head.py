"""A linear classification head on standardised features."""

from typing import Tuple

import torch
from mmpretrain.models.heads import LinearClsHead
from torch import Tensor

from lspt_mm.models.standardize import fold_statistics
from lspt_mm.registry import MODELS


@MODELS.register_module()
class StandardizedLinearClsHead(LinearClsHead):
    """mmpretrain's ``LinearClsHead`` on (x - mean) / std, whose statistics are buffers.

    A penalty and a learning rate then mean the same for every feature, whatever its scale.
    ``LinearBaselineHook`` sets the statistics to those of the training images; until then they are
    0 and 1, and the head is mmpretrain's.
    """

    def __init__(self, num_classes: int, in_channels: int, **kwargs):
        super().__init__(num_classes, in_channels, **kwargs)
        self.register_buffer('feature_mean', torch.zeros(in_channels))
        self.register_buffer('feature_std', torch.ones(in_channels))

    def start_at(self, weight, bias, mean, std) -> None:
        """Take a fitted classifier: (K, D), (K,) and the features' statistics (D,)."""
        with torch.no_grad():
            own = self.fc.weight, self.fc.bias, self.feature_mean, self.feature_std
            for tensor, value in zip(own, (weight, bias, mean, std), strict=True):
                tensor.copy_(torch.as_tensor(value))

    def fold(self) -> None:
        """Put the statistics into the layer: the same logits, mean 0, deviation 1."""
        fold_statistics(self.fc, self.feature_mean, self.feature_std)

    def pre_logits(self, feats: Tuple[Tensor, ...]) -> Tensor:
        """The last features (B, D), standardised."""
        return (feats[-1] - self.feature_mean) / self.feature_std
