"""Cross-entropy of upsampled logits, computed in chunks of rows.

Heads return logits at a quarter of the image's size; the loss is taken at full size. Upsampled at
once, logits, their log-softmax and the gradients of both are four maps of all classes and pixels:
1.3 GB for two images of 512 pixels and 150 classes, 10 GB for sixteen. Here each chunk is
upsampled, compared with its labels, and its gradient reduced to the head's size before the next
chunk. The backward pass keeps only a gradient as large as the head's logits.

Shapes: B images, K classes, h and w the head's size, H and W the labels'.
"""

from contextlib import nullcontext
from typing import NamedTuple, Optional

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lspt_mm.models.ops.upsampling import chunk_size, neighbours


class SumsOverPixels(NamedTuple):
    """Result of :func:`upsampled_cross_entropy`: scalars, summed over all pixels not ignored.

    ``loss``: the sum of ``-weight[label] * log softmax(logits)[label]``, the only one with a
    gradient. ``weight``: the sum of their weights (their number, without weights). ``pixels``:
    their number. ``correct``: how many have the largest logit at their label.
    """

    loss: Tensor
    weight: Tensor
    pixels: Tensor
    correct: Tensor


def upsampled_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    align_corners: bool = False,
    class_weight: Optional[Tensor] = None,
    chunk: Optional[int] = None,
) -> SumsOverPixels:
    """Cross-entropy of bilinearly upsampled logits (B, K, h, w) with labels (B, H, W).

    Same result as ``cross_entropy(interpolate(logits, (H, W), mode='bilinear'), labels)``, computed
    in float32 for logits of any dtype.

    Args:
        logits: The head's output.
        labels: Classes 0 .. K - 1, or ``ignore_index``.
        ignore_index: Pixels with this label are ignored.
        align_corners: As of ``torch.nn.functional.interpolate``.
        class_weight: (K,), weight of each class's pixels; None is 1.
        chunk: Number of logits in a chunk; None is the device's default. A chunk has at least
            one row.

    Raises:
        IndexError: If a label is neither a class nor ``ignore_index`` (PyTorch's; on GPUs an
            assertion of the device).
    """
    batch, classes = logits.shape[:2]
    height, width = labels.shape[1:]
    if chunk is None:
        chunk = chunk_size(logits.device)
    rows = max(1, chunk // max(1, batch * classes * width))
    loss, correct = _ChunkedCrossEntropy.apply(
        logits, labels, ignore_index, align_corners, class_weight, min(rows, height)
    )
    counted = labels != ignore_index
    pixels = counted.sum()
    weight = pixels.to(loss.dtype)
    if class_weight is not None:
        weight = class_weight.to(loss.dtype)[labels.where(counted, 0)].mul(counted).sum()
    return SumsOverPixels(loss, weight, pixels, correct)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum over pixels; computes its gradient in the forward pass, chunk by chunk."""

    @staticmethod
    def forward(ctx, logits, labels, ignore_index, align_corners, class_weight, rows):
        wanted = ctx.needs_input_grad[0]
        height, width = labels.shape[1:]
        size = logits.shape[2]
        loss = logits.new_zeros((), dtype=torch.float32)
        correct = labels.new_zeros(())
        grad = torch.zeros_like(logits, dtype=torch.float32) if wanted else None
        if class_weight is not None:
            class_weight = class_weight.float()
        above, below, share = neighbours(size, height, align_corners, logits.device)
        kind = logits.device.type
        # Devices without autocast (meta) have nothing to turn off.
        known = torch.amp.is_autocast_available(kind)
        with torch.autocast(kind, enabled=False) if known else nullcontext():
            for first in range(0, height, rows):
                part = slice(first, min(first + rows, height))
                up, down, by = above[part], below[part], share[part, None]
                # Rows first, while these are short: (B, K, rows, w).
                low = torch.lerp(logits[:, :, up].float(), logits[:, :, down].float(), by)
                with torch.set_grad_enabled(wanted):
                    low = low.requires_grad_(wanted)
                    whole = F.interpolate(
                        low, (low.size(2), width), mode='bilinear', align_corners=align_corners
                    )
                    target = labels[:, part]
                    chunk_loss = F.cross_entropy(
                        whole, target, class_weight, ignore_index=ignore_index, reduction='sum'
                    )
                loss += chunk_loss.detach()
                # argmax() gives the same, but takes more than twice as long on a CPU.
                hit = whole.detach().max(dim=1).indices == target
                correct += (hit & (target != ignore_index)).sum()
                if wanted:
                    (grad_low,) = torch.autograd.grad(chunk_loss, low)
                    grad.index_add_(2, up, grad_low * (1 - by))
                    grad.index_add_(2, down, grad_low * by)
        if wanted:
            ctx.save_for_backward(grad)
        ctx.dtype = logits.dtype
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss, grad_correct):
        (grad,) = ctx.saved_tensors
        return (grad * grad_loss).to(ctx.dtype), None, None, None, None, None
