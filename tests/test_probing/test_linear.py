"""Fitted linear classifiers: scikit-learn's own pipeline is the oracle."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lspt_mm.errors import InputError
from lspt_mm.probing import fit_linear
from lspt_mm.probing.linear import PATH


def data(seed, count, classes=4):
    """Features of very different scales, one of them constant; overlapping classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(7).normal(size=(classes, 6))
    x = (centres[labels] + random.normal(size=(count, 6))) * 10.0 ** np.arange(-3, 3)
    x[:, 2] = 5
    return x + 100, labels


def oracle(x, labels, c):
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)).fit(x, labels)


def softmax(logits):
    logits = np.exp(logits - logits.max(1, keepdims=True))
    return logits / logits.sum(1, keepdims=True)


@pytest.mark.parametrize('classes', [2, 4])
def test_the_fit_is_scikit_learns(classes):
    (x, labels), (other, truth) = data(0, 60, classes), data(1, 40, classes)
    fit = fit_linear(x, labels, classes, (other, truth))
    scores = {c: oracle(x, labels, c).score(other, truth) for c in PATH}
    assert fit.scores == pytest.approx(scores)
    assert fit.c == min(c for c in PATH if scores[c] == max(scores.values()))
    theirs = oracle(x, labels, fit.c).predict_proba(other)
    assert softmax(fit.logits(other)) == pytest.approx(theirs, abs=1e-4)


def test_without_validation_images_folds_choose():
    x, labels = data(0, 60)
    fit = fit_linear(x, labels, 4)
    assert len(fit.scores) == len(PATH) and max(fit.scores.values()) == fit.scores[fit.c] > 0.5
    one_each = fit_linear(x[:4], labels[:4], 4)
    assert list(one_each.scores) == [PATH[len(PATH) // 2]]
    assert (one_each.logits(x[:4]).argmax(1) == labels[:4]).all()


def test_a_class_without_an_image_is_never_predicted():
    x, labels = data(0, 60)
    fit = fit_linear(x, labels + (labels > 1), 6)  # none of 2 and 5
    assert set(fit.logits(data(2, 400)[0]).argmax(1)) == {0, 1, 3, 4}


def test_what_cannot_be_fitted():
    x, labels = data(0, 8)
    with pytest.raises(InputError, match='all training images are of class'):
        fit_linear(x, labels * 0, 4)
    x[3, 3] = np.nan
    with pytest.raises(InputError, match='not finite'):
        fit_linear(x, labels, 4)
