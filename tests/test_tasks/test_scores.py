"""Scores of the tasks against scikit-learn."""

import math

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, recall_score

from lspt_mm.tasks import task_of

SEGMENTATION, CLASSIFICATION = (task_of({'default_scope': s}) for s in ('mmseg', 'mmpretrain'))


def test_segmentation_against_scikit_learn():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 5, (20, 30)), rng.integers(0, 5, (20, 30))
    truth[:3] = 255
    counts = SEGMENTATION.counts(truth.astype(np.uint8), predicted, 5)
    t, p = truth[3:].ravel(), predicted[3:].ravel()
    assert np.array_equal(counts, confusion_matrix(t, p))
    ious = 100 * jaccard_score(t, p, average=None)
    assert SEGMENTATION.class_scores(counts) == pytest.approx(ious)
    assert SEGMENTATION.score(counts) == pytest.approx(ious.mean())


def test_classification_against_scikit_learn():
    t, p = np.random.default_rng(0).integers(0, 5, (2, 50))
    counts = sum(CLASSIFICATION.counts(t[i : i + 1], p[i : i + 1], 5) for i in range(50))
    recall = 100 * recall_score(t, p, average=None)
    assert CLASSIFICATION.class_scores(counts) == pytest.approx(recall)
    assert CLASSIFICATION.score(counts) == pytest.approx(100 * accuracy_score(t, p))


def test_a_class_that_does_not_occur():
    counts = SEGMENTATION.counts(np.array([0, 0]), np.array([0, 1]), 3)
    ious, recall = (task.class_scores(counts) for task in (SEGMENTATION, CLASSIFICATION))
    assert ious[:2] == [50, 0] and math.isnan(ious[2]) and SEGMENTATION.score(counts) == 25
    assert recall[0] == 50 and all(map(math.isnan, recall[1:]))


@pytest.mark.parametrize('task', [SEGMENTATION, CLASSIFICATION], ids=['seg', 'cls'])
def test_no_image(task):
    assert task.score(np.zeros((3, 3), int)) is None
