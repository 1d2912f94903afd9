"""mmseg's mean IoU, with memory that does not grow with the image."""

from typing import Tuple

from mmseg.evaluation import metrics
from torch import Tensor

from lspt_mm.registry import METRICS

#: Pixels that are compared at once. With classes of a byte each takes 11 bytes meanwhile.
STRIP = 1 << 20


@METRICS.register_module()
class IoUMetric(metrics.IoUMetric):
    """mmseg's ``IoUMetric``, a strip of the image at a time; arguments and results are the same.

    mmseg's takes 0.3 GB beside the class maps for an image of 4,000 x 4,000 pixels.
    """

    @staticmethod
    def intersect_and_union(
        pred_label: Tensor, label: Tensor, num_classes: int, ignore_index: int
    ) -> Tuple[Tensor, ...]:
        """Pixels of each class in an image.

        Args:
            pred_label: Predicted classes, (H, W).
            label: True classes, (H, W).
            num_classes: K.
            ignore_index: Value of ``label`` for pixels that do not count.

        Returns:
            tuple: Intersection, union, predicted and true pixels, (K,) each, float32: exact for up
            to 2^24 pixels of a class, as mmseg's are.
        """
        strips = zip(*(m.reshape(-1).split(STRIP) for m in (pred_label, label)), strict=True)
        counts = (
            metrics.IoUMetric.intersect_and_union(*strip, num_classes, ignore_index)
            for strip in strips
        )
        return tuple(sum(part.double() for part in parts).float()
                     for parts in zip(*counts, strict=True))
