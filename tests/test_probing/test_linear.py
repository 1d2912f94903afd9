"""Fitted linear classifiers: scikit-learn's own pipeline is the oracle."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lspt_mm.errors import InputError
from lspt_mm.probing import fit_linear, fit_one_vs_rest
from lspt_mm.probing.linear import PATH


def data(seed, count, classes=4):
    """Features of very different scales, one of them constant; overlapping classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(7).normal(size=(classes, 6))
    x = (centres[labels] + random.normal(size=(count, 6))) * 10.0 ** np.arange(-3, 3)
    x[:, 2] = 5
    return x + 100, labels


def one_hot(labels, classes=4):
    return np.eye(classes)[labels]


def oracle(x, labels, c):
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000, tol=1e-8)).fit(
        x, labels)


def softmax(logits):
    logits = np.exp(logits - logits.max(1, keepdims=True))
    return logits / logits.sum(1, keepdims=True)


@pytest.mark.parametrize('classes', [2, 4])
def test_the_fit_is_scikit_learns(classes):
    (x, labels), (other, truth) = data(0, 60, classes), data(5, 40, classes)
    fit = fit_linear(x, one_hot(labels, classes), (other, one_hot(truth, classes)))
    scores = {c: 100 * oracle(x, labels, c).score(other, truth) for c in PATH}
    assert fit.scores == pytest.approx(scores)
    assert fit.c == min(c for c in PATH if scores[c] == max(scores.values()))
    theirs = oracle(x, labels, fit.c).predict_proba(other)
    assert softmax(fit.logits(other)) == pytest.approx(theirs, abs=1e-4)


def test_without_validation_images_folds_choose():
    x, labels = data(0, 60)
    fit = fit_linear(x, one_hot(labels))
    assert len(fit.scores) == len(PATH) and max(fit.scores.values()) == fit.scores[fit.c] > 50
    one_each = fit_linear(x[:4], one_hot(labels[:4]))
    assert list(one_each.scores) == [PATH[len(PATH) // 2]]
    assert (one_each.logits(x[:4]).argmax(1) == labels[:4]).all()


def least_loss(logits, truth):
    """The T of least log loss among many, by arithmetic."""
    tried = np.exp(np.linspace(0, 3, 1001))
    losses = [-np.log(softmax(logits / t)[np.arange(len(truth)), truth]).mean() for t in tried]
    return tried[np.argmin(losses)]


@pytest.mark.parametrize('classes', [2, 4])
def test_the_temperature_has_the_least_log_loss(classes):
    (x, labels), (other, truth) = data(0, 20, classes), data(5, 40, classes)
    fit = fit_linear(x, one_hot(labels, classes), (other, one_hot(truth, classes)), (10.0,))
    logits = np.log(oracle(x, labels, 10.0).predict_proba(other))
    assert fit.temperature > 1.1
    assert fit.temperature == pytest.approx(least_loss(logits, truth), rel=0.01)


def test_a_fit_is_not_sharpened():
    x, labels = data(0, 60)
    assert fit_linear(x, one_hot(labels), (x, one_hot(labels)), (1e-3,)).temperature < 1.001


def test_the_temperature_of_folds():
    x, labels = data(0, 20)
    fit = fit_linear(x, one_hot(labels), path=(10.0,))
    z, held_out = StandardScaler().fit_transform(x), np.zeros((20, 4))
    for a, b in StratifiedKFold(5, shuffle=True, random_state=0).split(z, labels):
        model = LogisticRegression(C=10.0, max_iter=5000, tol=1e-8).fit(z[a], labels[a])
        held_out[b] = model.decision_function(z[b])
    assert fit.temperature > 1.1
    assert fit.temperature == pytest.approx(least_loss(held_out, labels), rel=0.01)


def test_copies_of_an_image_are_in_one_fold():
    """As StratifiedGroupKFold has it; by chance alone copies would let weak penalties win."""
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(30, 8)), random.integers(0, 2, 30)
    rows = random.permutation(np.repeat(np.arange(30), 1 + 2 * labels))
    z, own, score = StandardScaler().fit_transform(x[rows]), labels[rows], 0
    for a, b in StratifiedGroupKFold(5, shuffle=True, random_state=0).split(z, own, rows):
        assert not {*rows[a]} & {*rows[b]}
        model = LogisticRegression(C=1.0, max_iter=5000, tol=1e-8).fit(z[a], own[a])
        score += (model.predict(z[b]) == own[b]).sum() * 100 / len(rows)
    fit = fit_linear(x[rows], one_hot(own, 2), path=(1.0,), files=rows)
    assert fit.scores[1.0] == pytest.approx(score)


def test_images_that_are_copies_leave_nothing_to_choose():
    x, labels = data(0, 4)
    rows = np.repeat(np.arange(4), 5)
    fit = fit_linear(x[rows], one_hot(labels[rows]), files=rows)
    assert list(fit.scores) == [PATH[len(PATH) // 2]] and fit.temperature == 1


def test_the_temperature_of_several_labels():
    (x, labels), (other, truth) = data(0, 20), data(5, 40)
    several = one_hot(labels) + one_hot((labels + 1) % 4) * (labels % 2)[:, None]
    fit = fit_one_vs_rest(x, several, (other, one_hot(truth)), (10.0,))
    sign = np.where(one_hot(truth) > 0, -1, 1)
    tried = np.exp(np.linspace(0, 3, 1001))
    losses = [np.log1p(np.exp(sign * fit.logits(other) / t)).mean() for t in tried]
    assert fit.temperature > 1.1
    assert fit.temperature == pytest.approx(tried[np.argmin(losses)], rel=0.01)


def test_without_held_out_images_logits_stay():
    x, labels = data(0, 4)
    assert fit_linear(x, one_hot(labels)).temperature == 1


def test_a_class_without_an_image_is_never_predicted():
    x, labels = data(0, 60)
    fit = fit_linear(x, one_hot(labels + (labels > 1), 6))  # none of 2 and 5
    assert set(fit.logits(data(2, 400)[0]).argmax(1)) == {0, 1, 3, 4}


def test_patches_of_several_classes():
    x, labels = data(0, 120)
    random = np.random.default_rng(3)
    shares = 0.6 * one_hot(labels) + 0.3 * one_hot(random.integers(0, 4, 120))  # a tenth is void
    weight = [1.0, 2.0, 0.5, 3.0]
    other, truth = data(1, 60)
    mixed = 0.75 * one_hot(truth) + 0.25 * one_hot((truth + 1) % 4)
    fit = fit_linear(
        x, shares, (other, mixed), (1e-2, 1.0), class_weight=weight, patches=True)
    # scikit-learn, each patch once for each class, as heavy as its share times the class's weight.
    z = StandardScaler().fit(x)
    four = np.tile(np.arange(4), 120)
    for c in fit.scores:
        model = LogisticRegression(C=c, max_iter=2000, tol=1e-8).fit(
            np.repeat(z.transform(x), 4, 0), four, shares.ravel() * np.tile(weight, 120))
        predicted = model.predict(z.transform(other))
        right = mixed[np.arange(60), predicted].sum() / mixed.sum()
        assert fit.scores[c] == pytest.approx(100 * right)
        if c == fit.c:
            theirs = model.predict_proba(z.transform(other))
            assert softmax(fit.logits(other)) == pytest.approx(theirs, abs=1e-3)


def test_without_validation_the_last_patches_choose():
    x, labels = data(0, 120)
    shares = 0.7 * one_hot(labels) + 0.3 * one_hot((labels + 1) % 4)
    fit = fit_linear(x, shares, patches=True)
    z, last = StandardScaler().fit(x).transform(x), shares[96:]
    for c in PATH:
        model = LogisticRegression(C=c, max_iter=5000, tol=1e-8).fit(
            np.repeat(z[:96], 4, 0), np.tile(np.arange(4), 96), shares[:96].ravel())
        right = last[np.arange(24), model.predict(z[96:])].sum() / last.sum()
        assert fit.scores[c] == pytest.approx(100 * right)
    assert fit.c == min(c for c in PATH if fit.scores[c] == max(fit.scores.values()))


def test_one_class_in_most_patches_leaves_nothing_to_choose():
    x, _ = data(0, 20)
    shares = np.repeat([[1.0, 0.0]], 20, 0)
    shares[-1] = 0.5
    assert list(fit_linear(x, shares, patches=True).scores) == [PATH[len(PATH) // 2]]


def test_what_cannot_be_fitted():
    x, labels = data(0, 8)
    with pytest.raises(InputError, match='all training images are of class'):
        fit_linear(x, one_hot(labels * 0))
    x[3, 3] = np.nan
    with pytest.raises(InputError, match='not finite'):
        fit_linear(x, one_hot(labels))


def several(seed, count, classes=4):
    """As ``data``, with the labels of two images in one, or with none."""
    x, labels = data(seed, count, classes)
    two = one_hot(labels, classes)
    two[1::3] = np.maximum(two[1::3], one_hot((labels[1::3] + 1) % classes, classes))
    two[::5] = 0
    return x, two


def one_vs_rest(x, labels, c):
    model = LogisticRegression(C=c, max_iter=5000, tol=1e-8)
    return make_pipeline(StandardScaler(), OneVsRestClassifier(model)).fit(x, labels)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize('constant', [False, True])
@pytest.mark.filterwarnings('ignore:Label .* is present in all training examples')
@pytest.mark.filterwarnings('ignore:Label not .* is present in all training examples')
def test_several_labels_are_scikit_learns_one_against_the_rest(constant):
    (x, labels), (other, truth) = several(0, 60), several(5, 40)
    if constant:
        labels[:, 1], labels[:, 2] = 0, 1
    fit = fit_one_vs_rest(x, labels, (other, truth))
    models = {c: one_vs_rest(x, labels, c) for c in PATH}
    scores = {c: 100 * f1_score(truth, model.predict(other), average='macro', zero_division=0)
              for c, model in models.items()}
    assert fit.scores == pytest.approx(scores)
    assert fit.c == min(c for c in PATH if scores[c] == max(scores.values()))
    theirs = models[fit.c].predict_proba(other)
    assert sigmoid(fit.logits(other)) == pytest.approx(theirs, abs=1e-4)


def test_several_labels_without_validation_images():
    x, labels = several(0, 60)
    fit = fit_one_vs_rest(x, labels)
    c, found, z = PATH[5], np.zeros_like(labels), StandardScaler().fit_transform(x)
    for a, b in KFold(5, shuffle=True, random_state=0).split(x):
        model = OneVsRestClassifier(LogisticRegression(C=c, max_iter=5000, tol=1e-8))
        found[b] = model.fit(z[a], labels[a]).predict(z[b])
    assert fit.scores[c] == pytest.approx(100 * f1_score(labels, found, average='macro'))
    assert max(fit.scores.values()) == fit.scores[fit.c]


@pytest.mark.parametrize('labels', [np.zeros((8, 3)), np.ones((8, 3)), np.eye(3)[[1] * 8]])
def test_several_labels_that_cannot_be_fitted(labels):
    x, _ = data(0, 8)
    with pytest.raises(InputError, match='no class is in some training images and not in others'):
        fit_one_vs_rest(x, labels)
    x[3, 3] = np.inf
    with pytest.raises(InputError, match='not finite'):
        fit_one_vs_rest(x, labels)
