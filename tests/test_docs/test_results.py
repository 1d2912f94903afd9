"""Tables of docs/results.md against the runs in docs/small_results.csv."""

import csv
import re
from collections import defaultdict

import numpy as np
import pytest
from miniatures import ROOT

from lspt_mm.recipes import METHODS

pytestmark = pytest.mark.docs

PAGE = (ROOT / 'docs' / 'results.md').read_text()
TASKS = {'eurosat': 'EuroSAT', 'flowers36': 'Flowers36', 'caltech101': 'Caltech-101',
         'cifar': 'CIFAR-100'}
NAMES = {'linear probe': 'linear', 'head alone': 'head',
         **{method.title: name for name, method in METHODS.items()}}


def table(first):
    """Rows by method, as header to cell, of the table whose header begins with ``first``."""
    found = re.search(rf'^\| {re.escape(first)}.*(?:\n\|.*)+', PAGE, re.MULTILINE)[0]
    header, _, *rows = [[c.strip() for c in row.split('|')[1:-1]] for row in found.splitlines()]
    return {NAMES[row[0]]: dict(zip(header, row, strict=True)) for row in rows}


def scores(phase, *keys):
    """Scores of classification runs by the values of ``keys``."""
    found = defaultdict(list)
    with open(ROOT / 'docs' / 'small_results.csv', newline='') as file:
        for row in csv.DictReader(file):
            if row['table'] == 'classification' and row['phase'] == phase:
                found[tuple(row[key] for key in keys)].append(float(row['score']))
    return found


def close(cell, value):
    """Rounded to the cell's digits, in either direction where it ends in 5."""
    return abs(float(cell) - value) <= 0.0501


def test_tests_of_each_method():
    runs, page = scores('final', 'method', 'task'), table('method | trained in the ViT')
    complete = {m for m, _ in runs if all(
        len(runs[m, t]) == (1 if m == 'linear' else 3) for t in TASKS)}
    assert page.keys() == complete
    means = {m: np.mean([np.mean(runs[m, t]) for t in TASKS]) for m in complete}
    for method, cells in page.items():
        for task, title in TASKS.items():
            mean, *deviation = cells[title].split(' ± ')
            assert close(mean, np.mean(runs[method, task]))
            assert not deviation or close(*deviation, np.std(runs[method, task], ddof=1))
        assert close(cells['mean'], means[method])
        gain = means[method] - means['linear']
        assert method == 'linear' or close(cells['over the probe'], gain)
    ordered = list(page)
    assert ordered == sorted(ordered, key=lambda method: -means[method])


def test_learning_rates():
    runs, page = scores('selection', 'method', 'lr'), table('method | 3e-4')
    whole = {key: np.mean(found) for key, found in runs.items() if len(found) == 2}
    assert page.keys() == {method for method, _ in whole}
    for method, cells in page.items():
        found = {float(lr): score for (m, lr), score in whole.items() if m == method}
        written = {float(lr): cell for lr, cell in cells.items() if lr[0].isdecimal() and cell}
        assert written.keys() == found.keys()
        assert all(close(cell, found[lr]) for lr, cell in written.items())
        assert float(cells['default']) == METHODS[method].lr
