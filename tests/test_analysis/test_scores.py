"""Confusion, IoU and recall against scikit-learn."""

import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score, recall_score

from lspt_mm.analysis.scores import class_iou, class_recall, confusion


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 5, (20, 30)), rng.integers(0, 5, (20, 30))
    truth[:3] = 255
    counts = confusion(truth, predicted, 5)
    t, p = truth[3:].ravel(), predicted[3:].ravel()
    assert np.array_equal(counts, confusion_matrix(t, p))
    assert class_iou(counts) == pytest.approx(100 * jaccard_score(t, p, average=None))
    assert class_recall(counts) == pytest.approx(100 * recall_score(t, p, average=None))


def test_a_class_that_does_not_occur():
    counts = confusion(np.array([0, 0]), np.array([0, 1]), 3)
    assert class_iou(counts)[:2] == [50, 0] and math.isnan(class_iou(counts)[2])
    assert class_recall(counts)[0] == 50 and all(map(math.isnan, class_recall(counts)[1:]))
