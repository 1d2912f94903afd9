"""Logistic regression on features, for every regularisation of a path."""

import copy
import itertools
import warnings
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import multilabel_confusion_matrix
from sklearn.model_selection import KFold, StratifiedGroupKFold, StratifiedKFold

from lspt_mm.errors import InputError

#: Inverse strengths of the L2 penalty, from strong to weak.
PATH = tuple(10.0**power for power in np.arange(-4, 1.51, 0.5))
#: The same for patches, of which there are more.
PATCH_PATH = tuple(10.0**power for power in range(-5, 1))
#: Samples times features times classes from which a fit stays in single precision and takes at
#: most a hundred steps, and the path ends after two values of C below the best one.
_LARGE = 2e8
#: Where a fit of double precision ends.
_LAST = dict(tol=1e-6, max_iter=500)
#: Logit, or its opposite, of a class that all training images have or none of them.
_SURE = 10.0
#: Features with a standard deviation below this share of the largest count as constant.
_CONSTANT = 1e-6


class LinearFit(NamedTuple):
    """Logits are ``weight @ ((x - mean) / std) + bias``.

    Attributes:
        weight: (K, D).
        bias: (K,).
        mean: (D,), of the training features.
        std: (D,).
        c: scikit-learn's C, the inverse strength of the penalty.
        scores: C to the score on validation or by cross-validation.
        temperature: T >= 1 of images' logits / T, which minimises their log loss on validation or
            by cross-validation (arXiv 1706.04599). It changes no prediction. A fit that separates
            few training images has almost no loss on them, and a T above 1.
    """

    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    c: float
    scores: Dict[float, float]
    temperature: float = 1.0

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Features (N, D) to (N, K)."""
        return (x - self.mean) / self.std @ self.weight.T + self.bias


def fit_linear(
    x: np.ndarray,
    shares: np.ndarray,
    validation: Optional[Tuple[np.ndarray, np.ndarray]] = None,
    path: Sequence[float] = PATH,
    score: Optional[Callable[[np.ndarray], float]] = None,
    class_weight: Optional[Sequence[float]] = None,
    patches: bool = False,
    files: Optional[Sequence[int]] = None,
) -> LinearFit:
    """The best logistic regression of a path on standardised features (scikit-learn, LBFGS).

    The path is in single precision; the solution of the best C then in double precision.

    Args:
        x: (N, D) of images or patches.
        shares: (N, K), how much of each is of each class, 0 to 1. A class without any is never
            predicted.
        validation: Features and shares that choose C; without them, cross-validation of at most
            five folds for images, or the last fifth of the patches, or the middle of ``path`` where
            a class has one image.
        path: Values of C, from strong penalties to weak ones.
        score: Of a confusion matrix (K, K), rows by true class; by default the accuracy in per
            cent.
        class_weight: (K,), weight of each class in the loss; 1 by default.
        patches: Whether these are patches of images, one image after the other.
        files: (N,), the file of each image: those of one file are in one fold. By default each has
            its own.

    Raises:
        InputError: If all samples are of one class, or a feature is not finite.
    """
    mean, std = _moments(x)
    present = np.flatnonzero(shares.sum(0))
    if len(present) < 2:
        raise InputError(f'all training images are of class {present}; expected two classes')
    # A patch is a sample for each of its classes, as heavy as its share.
    rows, labels = np.nonzero(shares)
    weights = shares[rows, labels] * (1 if class_weight is None else np.take(class_weight, labels))
    large = len(rows) * x.shape[1] * len(present) > _LARGE
    z = ((x - mean) / std)[rows]

    def walk(z, chosen, *how):
        return _path(z, labels[chosen], weights[chosen], *how)

    splits, truth = [], shares
    if patches:  # other images choose C
        held_out = rows >= len(x) * 4 // 5
        truth = np.zeros((len(rows), shares.shape[1]), shares.dtype)
        truth[np.arange(len(rows)), labels] = shares[rows, labels]
        if len(np.unique(labels[~held_out])) > 1:
            splits = [(np.flatnonzero(~held_out), np.flatnonzero(held_out))]
    else:
        file_of = rows if files is None else np.take(files, rows)
        first = np.unique(file_of, return_index=True)[1]
        folds = min(5, int(np.bincount(labels[first])[np.unique(labels)].min()))
        if folds > 1 and len(first) < len(rows):
            kind = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
            splits = [*kind.split(z, labels, file_of)]
        elif folds > 1:
            splits = [*StratifiedKFold(folds, shuffle=True, random_state=0).split(z, labels)]
    if validation is not None:
        validation = (validation[0] - mean) / std, validation[1]
    model, best, scores = _best(
        z, truth, walk, _confusion, validation, splits, path, score or _accuracy, large
    )
    weight, bias = model.coef_, model.intercept_
    if len(present) == 2:  # scikit-learn has one logit of two classes
        weight, bias = np.concatenate((-weight, weight)) / 2, np.concatenate((-bias, bias)) / 2
    classes = shares.shape[1]
    full = np.zeros((classes, x.shape[1])), np.full(classes, bias.min() - 10.0)
    full[0][present], full[1][present] = weight, bias
    fit = LinearFit(*full, mean, std, best, scores)
    if patches:
        return fit
    if validation is not None:
        validation = validation[0], validation[1][:, present]
    truth = shares[:, present]
    held_out = _held_out(model, best, z, truth, walk, _decision, validation, splits, large)
    return fit._replace(temperature=_temperature(held_out, _log_loss))


def fit_one_vs_rest(
    x: np.ndarray,
    labels: np.ndarray,
    validation: Optional[Tuple[np.ndarray, np.ndarray]] = None,
    path: Sequence[float] = PATH,
    score: Optional[Callable[[np.ndarray], float]] = None,
) -> LinearFit:
    """The best regression of a path for images of any number of classes: one for each class.

    As :func:`fit_linear`, on the same standardised features; a class's probability is the sigmoid
    of its logit. All classes share C.

    Args:
        x: (N, D) of images.
        labels: (N, K), 1 for a class that an image has, else 0. A class that no image has is never
            predicted, and one that all have always.
        validation: Features and labels that choose C; without them, cross-validation of at most
            five folds, or the middle of ``path`` for a single image.
        path: Values of C, from strong penalties to weak ones.
        score: Of counts (K, 2, 2), for each class absent or present by the truth (rows) and by the
            prediction; by default the mean F1 in per cent.

    Raises:
        InputError: If no class has images with and without it, or a feature is not finite.
    """
    mean, std = _moments(x)
    labels = np.asarray(labels) > 0
    if not (labels.any(0) & ~labels.all(0)).any():
        raise InputError(
            'no class is in some training images and not in others; expected one at least'
        )
    z = (x - mean) / std

    def walk(z, chosen, *how):
        return _path_of_each(z, labels[chosen], *how)

    splits = []
    if len(x) > 1:
        splits = [*KFold(min(5, len(x)), shuffle=True, random_state=0).split(z)]
    if validation is not None:
        validation = (validation[0] - mean) / std, validation[1]
    large = z.size * labels.shape[1] > _LARGE
    found, best, scores = _best(
        z, labels, walk, _counts_of_each, validation, splits, path, score or _macro_f1, large
    )
    held_out = _held_out(found, best, z, labels, walk, _logits_of_each, validation, splits, large)
    layer = _layer(found, x.shape[1])
    return LinearFit(*layer, mean, std, best, scores, _temperature(held_out, _log_loss_of_each))


def _best(
    z: np.ndarray, truth: np.ndarray, walk: Callable, count: Callable,
    validation: Optional[Tuple[np.ndarray, np.ndarray]], splits: Iterable, path: Sequence[float],
    score: Callable[[np.ndarray], float], large: bool,
) -> Tuple[Any, float, Dict[float, float]]:
    """The model of the best C of a path, this C, and each C's score.

    Args:
        z: (N, D), standardised.
        truth: (N, K), what ``count`` compares with.
        walk: Features, rows, values of C, stopping criteria and perhaps a first model to pairs of C
            and model.
        count: Model, features and truth to counts that add up.
        validation: Standardised features and truth.
        splits: Without validation: rows to fit and rows to count, for cross-validation.
        path: Values of C.
        score: Of counts.
        large: Whether to stay in single precision, and to end the path early.
    """
    path_z, every, end = z.astype(np.float32), slice(None), _end(large)
    scores, models, counts = {}, {}, dict.fromkeys(path, 0)
    if validation is not None:
        other = validation[0].astype(np.float32)
        for c, models[c] in walk(path_z, every, path, end):
            scores[c] = score(count(models[c], other, validation[1]))
            if large and max(scores.values()) > max(list(scores.values())[-2:]):
                break
    else:
        for a, b in splits:
            for c, model in walk(path_z[a], a, path, end):
                counts[c] = counts[c] + count(model, path_z[b], truth[b])
            scores = counts
        scores = {c: score(found) for c, found in scores.items()}
    scores = scores or {path[len(path) // 2]: float('nan')}
    best = max(scores, key=lambda c: (scores[c], -c))  # ties: the strongest penalty
    model = models.get(best)
    if model is None or not large:
        last = (path_z, end) if large else (z.astype(np.float64), _LAST)
        ((_, model),) = walk(last[0], every, [best], last[1], model)
    return model, best, scores


def _path_of_each(
    z: np.ndarray, labels: np.ndarray, path: Sequence[float], end: dict,
    start: Optional[list] = None,
) -> Iterator[Tuple[float, list]]:
    """Each C, and for each class its model, or its logit where it is constant."""
    ones = np.ones(len(z), z.dtype)
    walks = [
        itertools.repeat((None, _SURE if own.any() else -_SURE)) if own.all() or not own.any()
        else _path(z, own, ones, path, end, first)
        for own, first in itertools.zip_longest(labels.T, start or ())
    ]
    for c, *found in zip(path, *walks, strict=False):
        yield c, [model for _, model in found]


def _layer(models: list, width: int) -> Tuple[np.ndarray, np.ndarray]:
    """(K, D) and (K,)."""
    weight, bias = np.zeros((len(models), width)), np.zeros(len(models))
    for i, model in enumerate(models):
        if isinstance(model, float):
            bias[i] = model
        else:
            weight[i], bias[i] = model.coef_[0], model.intercept_[0]
    return weight, bias


def _logits_of_each(models: list, z: np.ndarray) -> np.ndarray:
    weight, bias = _layer(models, z.shape[1])
    return z @ weight.T + bias


def _counts_of_each(models: list, z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return multilabel_confusion_matrix(np.asarray(labels) > 0, _logits_of_each(models, z) >= 0)


def _macro_f1(counts: np.ndarray) -> float:
    wrong = counts[:, 0, 1] + counts[:, 1, 0]
    return float(100 * np.mean(2 * counts[:, 1, 1] / np.maximum(2 * counts[:, 1, 1] + wrong, 1)))


def _moments(x: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Mean and deviation (D,) of features; deviation 1 of those that are constant."""
    if not np.isfinite(x).all():
        raise InputError('the features of the training images are not finite numbers')
    mean, std = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    std[std <= _CONSTANT * std.max()] = 1.0
    return mean, std


def _end(large: bool) -> dict:
    """Stopping criteria of the fits of a path."""
    return dict(tol=1e-4, max_iter=100) if large else dict(tol=1e-5, max_iter=500)


def _path(
    z: np.ndarray, labels: np.ndarray, weights: np.ndarray, path: Sequence[float], end: dict,
    start: Optional[LogisticRegression] = None,
) -> Iterator[Tuple[float, LogisticRegression]]:
    """Each C and its model; a fit starts from the solution before, the first from ``start``."""
    model = LogisticRegression(warm_start=True, **end)
    if start is not None:
        for name in ('coef_', 'intercept_'):
            setattr(model, name, getattr(start, name).astype(z.dtype))
        model.classes_ = start.classes_
    for c in path:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', ConvergenceWarning)  # weak penalties, separable data
            model.set_params(C=c).fit(z, labels, weights)
        yield c, copy.deepcopy(model)


def _confusion(model: LogisticRegression, z: np.ndarray, shares: np.ndarray) -> np.ndarray:
    counts = np.zeros((shares.shape[1],) * 2)
    np.add.at(counts.T, model.predict(z), shares)
    return counts


def _held_out(
    model: Any, best: float, z: np.ndarray, truth: np.ndarray, walk: Callable, logits: Callable,
    validation: Optional[Tuple[np.ndarray, np.ndarray]], splits: Iterable, large: bool,
) -> List[Tuple[np.ndarray, np.ndarray]]:
    """Logits and truth (N, K) of images that the best C's model, or its folds', has not seen."""
    if validation is not None:
        return [(logits(model, validation[0]), validation[1])]
    path_z = z.astype(np.float32)
    folds = ((next(walk(path_z[a], a, [best], _end(large)))[1], b) for a, b in splits)
    return [(logits(fold, path_z[b]), truth[b]) for fold, b in folds]


def _decision(model: LogisticRegression, z: np.ndarray) -> np.ndarray:
    """Logits of all classes of a model, (N, K)."""
    logits = model.decision_function(z)
    return logits if logits.ndim == 2 else np.stack((-logits, logits), axis=1) / 2


def _log_loss(logits: np.ndarray, shares: np.ndarray) -> float:
    return -(shares * log_softmax(logits, axis=1)).sum()


def _log_loss_of_each(logits: np.ndarray, labels: np.ndarray) -> float:
    return np.logaddexp(0, np.where(np.asarray(labels) > 0, -logits, logits)).sum()


def _temperature(
    held_out: Sequence[Tuple[np.ndarray, np.ndarray]], log_loss: Callable[..., float]
) -> float:
    """T >= 1 that minimises the log loss of logits / T; 1 without held-out images.

    Below 1, it would sharpen a fit without errors on few held-out images, and leave no loss.
    """
    if not held_out:
        return 1.0
    logits, truth = (np.concatenate(part) for part in zip(*held_out, strict=True))

    def loss(power: float) -> float:
        return float(log_loss(logits.astype(np.float64) * np.exp(-power), truth))

    found = minimize_scalar(loss, bounds=(0, 3), method='bounded').x
    return float(np.exp(min(0.0, found, key=loss)))


def _accuracy(counts: np.ndarray) -> float:
    return 100 * counts.trace() / counts.sum()
