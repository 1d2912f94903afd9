"""mmseg's dice loss, without the pixels that have no class."""

from typing import Optional

from mmseg.models import losses
from mmseg.models.losses.dice_loss import dice_loss
from torch import Tensor
from torch.nn import functional as F

from lspt_mm.registry import MODELS


@MODELS.register_module()
class DiceLoss(losses.DiceLoss):
    """mmseg's ``DiceLoss`` (arXiv 1606.04797) over the pixels that have a class.

    mmseg's counts every probability at ignored pixels and padding as an error: its own
    ``ignore_index`` names a channel, not a label. Without such pixels the two are equal.
    """

    def forward(
        self, pred: Tensor, target: Tensor, weight: Optional[Tensor] = None,
        avg_factor: Optional[int] = None, reduction_override: Optional[str] = None,
        ignore_index: int = 255, **kwargs,
    ) -> Tensor:
        """The loss of logits (B, K, H, W) with labels (B, H, W).

        Args:
            pred: Logits; with ``activate=False`` probabilities.
            target: Classes, or ``ignore_index``.
            weight: (B,), of each image.
            avg_factor: Divisor of the sum over images, in place of their number.
            reduction_override: In place of ``reduction``.
            ignore_index: Label of pixels that are left out.
            **kwargs: Ignored, as by mmseg's.
        """
        known = target != ignore_index
        if self.activate and self.use_sigmoid:
            pred = pred.sigmoid()
        elif self.activate and pred.size(1) > 1:
            pred = pred.softmax(1)
        one_hot = F.one_hot(target.where(known, 0), pred.size(1)).movedim(-1, 1)
        return self.loss_weight * dice_loss(
            pred * known[:, None], one_hot * known[:, None], weight, self.eps,
            reduction_override or self.reduction, self.naive_dice, avg_factor, self.ignore_index,
        )
