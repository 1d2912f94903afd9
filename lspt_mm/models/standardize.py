"""A neck that brings the features of a frozen ViT to mean 0 and deviation 1."""

from typing import Optional, Sequence, Tuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from lspt_mm.registry import MODELS


def fold_statistics(layer: nn.Module, mean: Tensor, std: Tensor) -> None:
    """Put (x - mean) / std into a linear layer after it; they become 0 and 1, in place.

    Args:
        layer: ``nn.Linear`` or a 1x1 ``nn.Conv2d`` of D inputs.
        mean, std: (D,).
    """
    with torch.no_grad():
        flat = layer.weight.flatten(1).double() / std.double()
        layer.bias -= (flat @ mean.double()).to(layer.bias)
        layer.weight.copy_(flat.reshape(layer.weight.shape))
        mean.zero_()
        std.fill_(1)


@MODELS.register_module()
class Standardize(BaseModule):
    """(x - mean) / std of each channel of each map; statistics are buffers, 0 and 1 at first.

    A penalty and a learning rate then mean the same for every channel, whatever its scale; a few
    channels of a ViT are a hundred times as large as the others. ``LinearBaselineHook`` sets the
    statistics to those of the training images.

    Args:
        in_channels: Widths of the maps that the backbone gives.
        neck: Config of a neck that reads the standardised maps.
        init_cfg: As of MMEngine's ``BaseModule``.

    Returns (``forward``):
        tuple: The neck's maps, if there is one, and then the standardised maps (B, C, h, w).
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        neck: Optional[dict] = None,
        init_cfg: Optional[dict] = None,
    ):
        super().__init__(init_cfg)
        self.in_channels = list(in_channels)
        self.register_buffer('feature_mean', torch.zeros(sum(in_channels)))
        self.register_buffer('feature_std', torch.ones(sum(in_channels)))
        self.neck = None if neck is None else MODELS.build(neck)

    def start_at(self, mean, std) -> None:
        """Take statistics of all maps' channels, (sum of ``in_channels``,)."""
        for own, value in ((self.feature_mean, mean), (self.feature_std, std)):
            own.copy_(torch.as_tensor(value))

    def forward(self, maps: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:  # noqa: D102
        means, stds = (
            part.view(-1, 1, 1).split(self.in_channels)
            for part in (self.feature_mean, self.feature_std)
        )
        found = tuple((x - m) / s for x, m, s in zip(maps, means, stds, strict=True))
        return found if self.neck is None else (*self.neck(found), *found)
