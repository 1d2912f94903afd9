"""Attention on an image: entropies and overlaps that can be worked out by hand."""

import math

import pytest
import torch

from lspt_mm.analysis.localization import classes_of_patches, localization
from lspt_mm.analysis.similarity import PersistenceTrace
from lspt_mm.utils.images import IGNORE_INDEX

HALVES = torch.tensor([[0, 0, 1, 1]] * 2)  # left: class 0, right: class 1


def test_even_attention():
    found = localization(torch.full((3, 2, 4), 0.1), HALVES)
    assert found.entropy == pytest.approx(1)
    assert found.on_patches == pytest.approx(0.8)


def test_a_single_patch():
    weights = torch.zeros(1, 2, 4)
    weights[0, 0, 3] = 0.5
    found = localization(weights, HALVES)
    assert found.entropy == pytest.approx(0)
    assert found.on_patches == pytest.approx(0.5)


def test_attention_on_one_class():
    right = torch.tensor([[0.0, 0.01, 0.2, 0.1], [0.02, 0, 0.3, 0.05]])[None]
    assert localization(right, HALVES).overlap == pytest.approx(1)


def test_overlap_by_hand():
    # Top four patches: three of class 1 and one of class 0. IoU with 1: 3/5; with 0 (its top four
    # again): 1/7.
    weights = torch.tensor([[0.0, 0.9, 0.8, 0.7], [0.1, 0.2, 0.6, 0.3]])[None]
    assert localization(weights, HALVES).overlap == pytest.approx(3 / 5)
    both = torch.cat([weights, weights.flip(-1)])  # mirrored: the same with class 0
    assert localization(both, HALVES).overlap == pytest.approx(3 / 5)


def test_ignored_patches_do_not_count():
    classes = HALVES.clone()
    classes[:, 0] = IGNORE_INDEX
    weights = torch.tensor([[9.0, 0.9, 0.8, 0.7], [9, 0.2, 0.6, 0.3]])[None]
    # Of six patches four are of class 1: top four are .9 .8 .7 .6, three of them right.
    assert localization(weights, classes).overlap == pytest.approx(3 / 5)
    assert math.isnan(localization(weights, torch.full((2, 4), IGNORE_INDEX)).overlap)


def test_maps_of_another_image():
    right = torch.tensor([[0.0, 0.01, 0.2, 0.1], [0.02, 0, 0.3, 0.05]])[None]
    # Row by row: the top four are two of each class, 2 / (4 + 4 - 2).
    other = torch.tensor([[0.8, 0.7, 0.6, 0.5], [0.4, 0.3, 0.2, 0.1]])[None]
    found = localization(right, HALVES, other)
    assert found.overlap == pytest.approx(1)
    assert found.elsewhere == pytest.approx(1 / 3)
    # Of another size: the same map with each patch in four.
    bigger = torch.nn.functional.interpolate(other[None], (4, 8), mode='nearest')[0]
    assert localization(right, HALVES, bigger).elsewhere == pytest.approx(1 / 3)
    assert math.isnan(localization(right, HALVES).elsewhere)


@pytest.mark.parametrize('size', [(4, 6), (3, 5)])
def test_classes_of_patches(size):
    label = torch.tensor([
        [0, 0, 1, 1, 255, 255],
        [0, 1, 1, 1, 255, 2],
        [2, 2, 0, 0, 1, 1],
        [2, 2, 0, 0, 1, 1],
    ])[: size[0], : size[1]]
    expected = [[0, 1, 255], [2, 0, 1]]
    assert classes_of_patches(label, size, (2, 3), 2).tolist() == expected


def test_labels_are_brought_to_the_images_size():
    label = torch.tensor([[0, 1], [2, 255]])
    assert classes_of_patches(label, (8, 8), (2, 2), 4).tolist() == [[0, 1], [2, 255]]
    # A grid that leaves the last pixels out.
    assert classes_of_patches(label, (9, 9), (2, 2), 4).tolist() == [[0, 1], [2, 255]]


def test_persistence_is_a_correlation_over_patches():
    generator = torch.Generator().manual_seed(0)
    images = [[torch.rand(3, 8, generator=generator) for _ in range(2)] for _ in range(4)]
    trace = PersistenceTrace()
    for a, b in images:
        trace.add([None, a, b])
    found = trace.result()
    pairs = [
        torch.corrcoef(torch.stack([x, y]))[0, 1]
        for a, b in images for x, y in zip(a, b, strict=True)
    ]
    assert found.blocks == [2, 3]
    assert found.correlation[0][1] == pytest.approx(float(torch.stack(pairs).mean()), abs=1e-6)
    assert found.correlation[0][0] == pytest.approx(1)


def test_persistence_of_different_numbers_of_queries_is_not_known():
    trace = PersistenceTrace()
    trace.add([torch.rand(3, 8), None, torch.rand(2, 8), torch.rand(3, 8)])
    found = trace.result()
    unknown = torch.tensor(found.correlation).isnan()
    assert found.blocks == [1, 3, 4]
    assert unknown.tolist() == [[False, True, False], [True, False, True], [False, True, False]]
