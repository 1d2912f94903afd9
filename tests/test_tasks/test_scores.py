"""Scores of the tasks against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from mmpretrain.evaluation import MultiLabelMetric
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    jaccard_score,
    multilabel_confusion_matrix,
    recall_score,
)

from lspt_mm.tasks import Prediction, task_of

SEGMENTATION, CLASSIFICATION = (task_of({'default_scope': s}) for s in ('mmseg', 'mmpretrain'))
MULTI_LABEL = task_of({
    'default_scope': 'mmpretrain',
    'model': {'head': {'type': 'mmpretrain.MultiLabelLinearClsHead'}},
})


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


@pytest.mark.parametrize('absent', [False, True])
def test_several_labels_against_scikit_learn_and_mmpretrain(absent):
    random = np.random.default_rng(0)
    truth, scores = random.random((40, 5)) < 0.4, random.random((40, 5))
    scores[0, 0] = 0.5  # is predicted
    if absent:
        truth[:, 3], scores[:, 3] = False, 0.1
    found = scores >= 0.5
    counts = sum(MULTI_LABEL.counts(np.flatnonzero(t), np.flatnonzero(p), 5)
                 for t, p in zip(truth, found, strict=True))
    assert np.array_equal(counts, multilabel_confusion_matrix(truth, found))
    each = np.array(MULTI_LABEL.class_scores(counts))
    assert np.isnan(each[3]) == absent
    assert np.nan_to_num(each) == pytest.approx(
        100 * f1_score(truth, found, average=None, zero_division=0)
    )
    theirs = MultiLabelMetric.calculate(torch.tensor(scores), torch.tensor(truth), thr=0.5)[2]
    assert MULTI_LABEL.score(counts) == pytest.approx(theirs.item())
    true, predicted = MULTI_LABEL.occurrences(counts)
    assert np.array_equal(true, truth.sum(0)) and np.array_equal(predicted, found.sum(0))


@pytest.mark.parametrize('task', [SEGMENTATION, CLASSIFICATION], ids=['seg', 'cls'])
def test_occurrences(task):
    counts = np.array([[3, 1], [0, 2]])
    assert [one.tolist() for one in task.occurrences(counts)] == [[4, 2], [3, 3]]


@pytest.mark.parametrize(('evaluator', 'measured'), [
    (dict(type='MultiLabelMetric', thr=0.5), True), (dict(type='MultiLabelMetric'), True),
    (dict(type='MultiLabelMetric', thr=0.3), False), (dict(type='MultiLabelMetric', topk=1), False),
    (dict(type='MultiLabelMetric', thr=0.5, average='micro'), False),
    (dict(type='MultiLabelMetric', thr=0.5, items=['recall']), False),
    (dict(type='AveragePrecision'), False), (dict(type='Accuracy', topk=(1,)), False),
])
def test_what_measures_macro_f1(evaluator, measured):
    assert MULTI_LABEL.measured_by(evaluator) == measured


def test_descriptions():
    names, scores = ['ant', 'bee', 'cat'], np.array([0.6, 0.2, 0.7])
    found = Prediction(np.array([0, 2]), scores)
    none = Prediction(np.array([], int), np.array([0.1, 0.2, 0.3]))

    def names_in(task, prediction, top=None):
        told = task.describe(prediction, names, [], top).classes
        return [one.name for one in told]

    assert names_in(MULTI_LABEL, found) == ['cat', 'ant']
    assert names_in(MULTI_LABEL, found, 1) == ['cat']
    assert names_in(MULTI_LABEL, none) == [] and names_in(MULTI_LABEL, none, 2) == ['cat', 'bee']
    assert names_in(MULTI_LABEL, Prediction(found.labels)) == ['ant', 'cat']
    assert names_in(CLASSIFICATION, Prediction(np.array([2]), scores)) == ['cat']
    write = [MULTI_LABEL.write(None, '', None, one, names, [], None) for one in (found, none)]
    assert write[0] == ('cat 0.700, ant 0.600', [(1, 'cat', '0.700000'), (2, 'ant', '0.600000')])
    assert write[1] == ('no class', [('', '', '')])


@pytest.mark.parametrize(
    ('task', 'shape'), [(SEGMENTATION, (3, 3)), (CLASSIFICATION, (3, 3)), (MULTI_LABEL, (3, 2, 2))],
    ids=['seg', 'cls', 'multi'],
)
def test_no_image(task, shape):
    assert task.score(np.zeros(shape, int)) is None
