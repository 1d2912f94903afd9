"""mmseg's heads with a loss that does not upsample all logits at once.

Parameters, names in checkpoints, predictions and losses are those of mmseg's heads of the same
name: ``type='lspt_mm.UPerHead'`` and ``type='UPerHead'`` are interchangeable. Any loss other than
plain cross-entropy, and any pixel sampler, runs as in mmseg.
"""

from typing import Dict, List, Optional, Sequence, Tuple

import torch
from mmcv.cnn import build_norm_layer
from mmseg.models import decode_heads
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.utils import SampleList
from torch import Tensor, cat, nn
from torch.nn import functional as F

from lspt_mm.models.ops.chunked_cross_entropy import upsampled_cross_entropy
from lspt_mm.registry import MODELS

#: As in mmseg's means: if no pixel counts, the loss is 0.
EPS = torch.finfo(torch.float32).eps


class ChunkedLossMixin:
    """Mixin for mmseg's heads with a chunked loss; must precede ``BaseDecodeHead``."""

    def loss_by_feat(
        self, seg_logits: Tensor, batch_data_samples: SampleList
    ) -> Dict[str, Tensor]:
        """Losses of logits (B, K, h, w) by mmseg's names, and ``acc_seg`` in percent, (1,)."""
        several = isinstance(self.loss_decode, nn.ModuleList)
        losses: List[nn.Module] = [*self.loss_decode] if several else [self.loss_decode]
        if self.sampler is not None or not all(_is_plain(loss) for loss in losses):
            return super().loss_by_feat(seg_logits, batch_data_samples)
        labels = self._stack_batch_gt(batch_data_samples).squeeze(1)  # (B, H, W)
        found: Dict[str, Tensor] = {}
        for loss in losses:
            weight = loss.class_weight
            if weight is not None:
                weight = torch.as_tensor(weight, dtype=torch.float32, device=seg_logits.device)
            sums = upsampled_cross_entropy(
                seg_logits, labels, self.ignore_index, self.align_corners, weight
            )
            if weight is not None:
                number = sums.weight
            else:
                # mmseg's default is the mean over all pixels, including ignored ones.
                number = sums.pixels if loss.avg_non_ignore else labels.numel()
            value = loss.loss_weight * sums.loss / (number + EPS)
            found[loss.loss_name] = found.get(loss.loss_name, 0) + value
        found['acc_seg'] = ((sums.correct + EPS) * (100 / (sums.pixels + EPS))).reshape(1)
        return found


def _is_plain(loss: nn.Module) -> bool:
    """Whether this is softmax cross-entropy, averaged."""
    return (
        type(loss) is CrossEntropyLoss
        and not (loss.use_sigmoid or loss.use_mask)
        and loss.reduction == 'mean'
    )


class LinearSkipMixin:
    """Mixin for mmseg's heads: adds a linear layer on the ViT's maps to the head's logits.

    The head's own logits are initially 0: if the layer is fitted, the run starts from per-patch
    logistic regression, and the head learns the difference.

    Args:
        linear_in_channels: Widths of the maps, which are the neck's last outputs. None: no layer,
            the head is mmseg's.
    """

    def __init__(self, *args, linear_in_channels: Optional[Sequence[int]] = None, **kwargs):
        if linear_in_channels:
            kwargs.setdefault(
                'init_cfg', dict(type='Constant', val=0.0, override=dict(name='conv_seg'))
            )
        super().__init__(*args, **kwargs)
        self.linear = None
        if linear_in_channels:
            self.linear_maps = len(linear_in_channels)
            self.linear = nn.Conv2d(sum(linear_in_channels), self.out_channels, 1)

    def forward(self, inputs: Tuple[Tensor, ...]) -> Tensor:  # noqa: D102
        logits = super().forward(inputs)
        if self.linear is None:
            return logits
        linear = self.linear(cat(inputs[-self.linear_maps :], dim=1))
        return logits + F.interpolate(
            linear, logits.shape[2:], mode='bilinear', align_corners=self.align_corners
        )


@MODELS.register_module()
class LinearSegHead(ChunkedLossMixin, BaseDecodeHead):
    """One linear layer on each patch's features of several blocks (a 1x1 convolution).

    Args:
        in_channels: Widths of the maps.
        **kwargs: As mmseg's ``BaseDecodeHead`` (num_classes, loss_decode, ...). With a
            ``norm_cfg`` the features are normalised first, as in the linear evaluation of DINOv2
            and DINOv3.
    """

    def __init__(self, in_channels: Sequence[int], **kwargs):
        kwargs.setdefault('dropout_ratio', 0)
        super().__init__(
            in_channels=in_channels, in_index=list(range(len(in_channels))),
            input_transform='multiple_select', channels=sum(in_channels), **kwargs,
        )
        self.norm = build_norm_layer(self.norm_cfg, self.channels)[1] if self.norm_cfg else None

    @property
    def linear(self) -> Optional[nn.Module]:
        """The linear layer, if it reads the features as they are."""
        return self.conv_seg if self.norm is None else None

    def forward(self, inputs: Tuple[Tensor, ...]) -> Tensor:  # noqa: D102
        features = cat(self._transform_inputs(inputs), dim=1)
        return self.cls_seg(features if self.norm is None else self.norm(features))


@MODELS.register_module()
class UPerHead(LinearSkipMixin, ChunkedLossMixin, decode_heads.UPerHead):
    """mmseg's UPerNet head (arXiv 1807.10221) with :class:`ChunkedLossMixin`."""


@MODELS.register_module()
class FCNHead(ChunkedLossMixin, decode_heads.FCNHead):
    """mmseg's FCN head (arXiv 1411.4038) with :class:`ChunkedLossMixin`."""


@MODELS.register_module()
class SegformerHead(LinearSkipMixin, ChunkedLossMixin, decode_heads.SegformerHead):
    """mmseg's SegFormer head (arXiv 2105.15203) with :class:`ChunkedLossMixin`."""


@MODELS.register_module()
class SETRUPHead(ChunkedLossMixin, decode_heads.SETRUPHead):
    """mmseg's SETR head (arXiv 2012.15840) with :class:`ChunkedLossMixin`."""
