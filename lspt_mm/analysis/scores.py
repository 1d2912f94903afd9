"""Confusion matrices and what follows from them."""

from typing import List

import numpy as np


def confusion(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Counts (K, K), rows by true class, columns by predicted class.

    Args:
        truth: Class numbers of any shape; those outside 0 .. K-1 (as 255) are left out.
        predicted: Class numbers of the same shape, 0 .. K-1.
        num_classes: K.
    """
    truth, predicted = truth.ravel().astype(np.int64), predicted.ravel().astype(np.int64)
    judged = (truth >= 0) & (truth < num_classes)
    pairs = num_classes * truth[judged] + predicted[judged]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_iou(counts: np.ndarray) -> List[float]:
    """Intersection over union of each class in per cent; NaN for a class neither has."""
    hits = np.diag(counts).astype(float)
    union = counts.sum(0) + counts.sum(1) - hits
    with np.errstate(invalid='ignore'):
        return (100 * hits / union).tolist()


def class_recall(counts: np.ndarray) -> List[float]:
    """Share of each true class that was found, in per cent; NaN for one that does not occur."""
    with np.errstate(invalid='ignore'):
        return (100 * np.diag(counts) / counts.sum(1)).tolist()
