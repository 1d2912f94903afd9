"""CKA and cosines against the textbook's sums, and against what must not change them."""

import math
from itertools import permutations

import pytest
import torch

from lspt_mm.analysis.similarity import linear_cka, mean_cosine


def literal_hsic(k, l):
    """The U-statistic: means over all pairs, triples and quadruples of different rows."""
    n = len(k)
    pairs = sum(k[i, j] * l[i, j] for i, j in permutations(range(n), 2)) / (n * (n - 1))
    four = sum(k[i, j] * l[q, r] for i, j, q, r in permutations(range(n), 4))
    three = sum(k[i, j] * l[i, q] for i, j, q in permutations(range(n), 3))
    return (
        pairs
        + four / (n * (n - 1) * (n - 2) * (n - 3))
        - 2 * three / (n * (n - 1) * (n - 2))
    )


def rows(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).double()


@pytest.mark.parametrize(('n', 'd', 'e'), [(4, 3, 3), (6, 2, 9), (7, 20, 5)])
def test_cka_is_the_mean_over_all_different_rows(n, d, e):
    x, y = rows(n, d, 0), 0.3 * rows(n, e, 1)
    x[:, 0] += y[:, 0]
    k, l = x @ x.T, y @ y.T
    total = literal_hsic(k, k) * literal_hsic(l, l)
    found = linear_cka(x, y)
    if total > 0:
        assert found == pytest.approx(float(literal_hsic(k, l) / total.sqrt()), abs=1e-9)
    else:
        assert math.isnan(found)


def test_cka_does_not_mind_rotation_scale_and_shift():
    x = rows(30, 8, 0)
    rotation, _ = torch.linalg.qr(rows(8, 8, 1))
    assert linear_cka(x, -7 * x @ rotation + 3) == pytest.approx(1)


def test_cka_of_independent_rows_is_nothing_even_with_few_of_them():
    values = [linear_cka(rows(10, 200, i), rows(10, 200, 1000 + i)) for i in range(200)]
    assert abs(sum(values) / 200) < 0.03  # the biased estimator gives about 0.9 here


@pytest.mark.parametrize('x', [torch.ones(10, 4), 3 + torch.zeros(10, 4), rows(3, 4, 0)])
def test_cka_where_there_is_none(x):
    assert math.isnan(linear_cka(x, rows(len(x), 4, 1)))


def test_cosine():
    x = torch.tensor([[[1.0, 0], [0, 2]]])
    y = torch.tensor([[[3.0, 3], [0, -1]]])
    assert mean_cosine(x, y) == pytest.approx((math.sqrt(0.5) - 1) / 2)
