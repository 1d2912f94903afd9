"""Points of a grid, their names, and the choice among them."""

import math

import pytest

from lspt_mm.errors import InputError
from lspt_mm.search.grid import Outcome, best, expand_grid, name_of


def test_product():
    assert expand_grid({'lr': [0.1, 0.5], 'P': [1, 2]}) == [
        {'lr': 0.1, 'P': 1}, {'lr': 0.1, 'P': 2}, {'lr': 0.5, 'P': 1}, {'lr': 0.5, 'P': 2}
    ]
    assert expand_grid({}) == [{}]


@pytest.mark.parametrize(
    ('grid', 'said'),
    [
        ({'lr': []}, 'lr has no values'),
        ({'lr': [0.1, 0.1000000]}, '2 points are lr=0.1; expected different ones'),
        ({'task': ['a b', 'a/b']}, '2 points are task=a_b'),
        ({'lr': [0.1, None]}, 'lr=None: expected a number'),
        ({'optim_wrapper.optimizer.lr': ['abc']}, "lr='abc': expected a number"),
        ({'randomness.seed': [1, 2]}, 'seeds are not searched'),
    ],
)
def test_malformed(grid, said):
    with pytest.raises(InputError, match=said):
        expand_grid(grid)


def test_values_that_are_nearly_equal_are_two_points():
    assert len({name_of(p) for p in expand_grid({'lr': [0.1000001, 0.1000002]})}) == 2


def test_names_are_folders():
    assert name_of({'lr': 0.1, 'weight_decay': 1e-4}) == 'lr=0.1,weight_decay=0.0001'
    assert name_of({'model.backbone.prompter.gspc': False}) == 'model.backbone.prompter.gspc=False'
    assert name_of({'task': 'a/b c'}) == 'task=a_b_c'
    assert name_of({}) == 'as-it-is'


def outcome(accuracy, **point):
    return Outcome(point, accuracy)


def test_the_most_accurate_wins():
    assert best([outcome(50, lr=1), outcome(60, lr=2), outcome(55, lr=3)]).point == {'lr': 2}


@pytest.mark.parametrize('name', ['lr', 'optim_wrapper.optimizer.lr'])
def test_ties_go_to_the_smaller_learning_rate(name):
    rates = (0.5, 0.1, 0.25)
    assert best([Outcome({'a': 1, name: r}, 60.0) for r in rates]).point[name] == 0.1


def test_ties_without_or_in_learning_rates_go_by_the_grids_order():
    assert best([outcome(60, P=5), outcome(60, P=1)]).point == {'P': 5}
    tied = [outcome(60, lr=1, P=5), outcome(60, lr=1, P=1), outcome(59, lr=0.1, P=1)]
    assert best(tied).point == {'lr': 1, 'P': 5}


def test_a_run_that_diverged_never_wins():
    assert best([outcome(math.nan, lr=0.1), outcome(1.0, lr=9)]).accuracy == 1.0
    assert best([outcome(1.0, lr=9), outcome(math.nan, lr=0.1)]).accuracy == 1.0


@pytest.mark.parametrize(('tolerance', 'rate'), [(0.0, 0.1), (0.01, 0.01)])
def test_accuracies_within_the_tolerance_are_equal(tolerance, rate):
    outcomes = [Outcome({'lr': lr}, accuracy) for lr, accuracy in
                ((0.001, 49.9), (0.01, 50.0), (0.1, 50.005), (1.0, float('nan')))]
    assert best(outcomes, tolerance).point['lr'] == rate
