"""Logistic regression on features, for every regularisation of a path."""

import warnings
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from lspt_mm.errors import InputError

#: Inverse strengths of the L2 penalty, from strong to weak.
PATH = tuple(10.0**power for power in np.arange(-4, 1.51, 0.5))
#: Standard deviations below this share of the largest are of constants.
_CONSTANT = 1e-6


class LinearFit(NamedTuple):
    """Logits are ``weight @ ((x - mean) / std) + bias``.

    Attributes:
        weight: (K, D).
        bias: (K,).
        mean: (D,), of the training features.
        std: (D,).
        c: scikit-learn's C, the inverse strength of the penalty.
        scores: C to the share that is right, 0 to 1, on validation or by cross-validation.
    """

    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    c: float
    scores: Dict[float, float]

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Features (N, D) to (N, K)."""
        return (x - self.mean) / self.std @ self.weight.T + self.bias


def fit_linear(
    x: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    validation: Optional[Tuple[np.ndarray, np.ndarray]] = None,
    path: Sequence[float] = PATH,
) -> LinearFit:
    """The best logistic regression of a path on standardised features (scikit-learn, LBFGS).

    Args:
        x: (N, D).
        labels: (N,), 0 to K - 1. A class without an image is never predicted.
        num_classes: K.
        validation: Features and labels that choose C; without them, cross-validation of at most
            five folds, or the middle of ``path`` where a class has one image.
        path: Values of C.

    Raises:
        InputError: If all images are of one class, or a feature is not finite.
    """
    x, labels = np.asarray(x, np.float64), np.asarray(labels)
    if not np.isfinite(x).all():
        raise InputError('the features of the training images are not finite numbers')
    present = np.unique(labels)
    if len(present) < 2:
        raise InputError(f'all training images are of class {present}; expected two classes')
    mean, std = x.mean(0), x.std(0)
    std[std <= _CONSTANT * std.max()] = 1.0
    z = (x - mean) / std
    if validation is not None:
        other, truth = (np.asarray(validation[0], np.float64) - mean) / std, validation[1]
        models = {c: _fit(z, labels, c) for c in path}
        scores = {c: float(model.score(other, truth)) for c, model in models.items()}
    else:
        scores, models = _cross_validated(z, labels, path), {}
    best = max(scores, key=lambda c: (scores[c], -c))  # of equals the strongest penalty
    model = models.get(best) or _fit(z, labels, best)
    weight, bias = model.coef_, model.intercept_
    if len(present) == 2:  # scikit-learn has one logit of two classes
        weight, bias = np.concatenate((-weight, weight)) / 2, np.concatenate((-bias, bias)) / 2
    full = np.zeros((num_classes, x.shape[1])), np.full(num_classes, bias.min() - 10.0)
    full[0][present], full[1][present] = weight, bias
    return LinearFit(*full, mean, std, best, scores)


def _fit(z: np.ndarray, labels: np.ndarray, c: float) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ConvergenceWarning)  # weak penalties on separable data
        return LogisticRegression(C=c, max_iter=500).fit(z, labels)


def _cross_validated(
    z: np.ndarray, labels: np.ndarray, path: Sequence[float]
) -> Dict[float, float]:
    folds = min(5, int(np.bincount(labels)[np.unique(labels)].min()))
    if folds < 2:
        return {path[len(path) // 2]: float('nan')}
    parts = list(StratifiedKFold(folds, shuffle=True, random_state=0).split(z, labels))
    return {
        c: float(np.mean([_fit(z[a], labels[a], c).score(z[b], labels[b]) for a, b in parts]))
        for c in path
    }
