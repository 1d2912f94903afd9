"""Neck that standardises the features of a frozen ViT, for any task."""

from typing import Optional, Sequence, Tuple

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from lspt_mm.errors import InputError
from lspt_mm.registry import MODELS


@MODELS.register_module()
class Standardize(BaseModule):
    """Compute (x - mean) / std per channel; the statistics are buffers, initially 0 and 1.

    A penalty and a learning rate then have the same effect on channels of any scale; a few
    channels of a ViT are a hundred times larger than the others. ``LinearBaselineHook`` sets the
    statistics to those of the training images.

    Args:
        in_channels: Widths of the backbone's features.
        neck: Config of a neck that reads the standardised features.
        init_cfg: As of MMEngine's ``BaseModule``.

    Returns (``forward``):
        tuple: The outputs of the neck, if any, then the standardised features, (B, C) or
            (B, C, h, w).

    Raises:
        InputError: By ``forward`` and ``start_at``, for features of other widths.
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
        """Set the statistics of all channels, (sum of ``in_channels``,)."""
        for own, value in ((self.feature_mean, mean), (self.feature_std, std)):
            value = torch.as_tensor(value)
            if value.dim() and value.shape != own.shape:
                raise self._other_widths(len(value))
            own.copy_(value)

    def fold(self, layer: nn.Module) -> None:
        """Fold the statistics into a linear layer that reads all features; they become 0 and 1.

        This does nothing if there is a ``neck``, which reads the features as well.

        Args:
            layer: ``nn.Linear`` or a 1x1 ``nn.Conv2d``.
        """
        if self.neck is not None:
            return
        with torch.no_grad():
            weight = layer.weight.flatten(1).double() / self.feature_std.double()
            layer.bias -= (weight @ self.feature_mean.double()).to(layer.bias)
            layer.weight.copy_(weight.reshape(layer.weight.shape))
            self.start_at(0.0, 1.0)

    def forward(self, features: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:  # noqa: D102
        widths = [x.size(1) for x in features]
        if widths != self.in_channels:
            raise self._other_widths(widths)
        found = []
        parts = (part.split(self.in_channels) for part in (self.feature_mean, self.feature_std))
        for x, mean, std in zip(features, *parts, strict=True):
            shape = (-1, *[1] * (x.dim() - 2))
            found.append((x - mean.view(shape)) / std.view(shape))
        return tuple(found) if self.neck is None else (*self.neck(found), *found)

    def _other_widths(self, found) -> InputError:
        return InputError(
            f'model.neck.in_channels={self.in_channels}: the features of the backbone have {found} '
            'channels; expected their widths, level by level'
        )
