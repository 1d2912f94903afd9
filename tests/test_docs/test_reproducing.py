"""docs/reproducing.md: its arithmetic, from the data sets' sizes and the grids it speaks of."""

import math
import re

import pytest
from miniatures import ROOT

from lspt_mm.config.arguments import pass_arguments
from lspt_mm.config.benchmarks import FGVC_TASKS, VTAB_TASKS
from lspt_mm.recipes import default_grid, resolve_experiment

pytestmark = pytest.mark.docs

PAGE = (ROOT / 'docs' / 'reproducing.md').read_text()
EPOCHS, SEEDS = 100, 5


def table(first):
    """Header and rows of the table whose header begins with ``first``."""
    found = re.search(rf'^\| {re.escape(first)}.*(?:\n\|.*)+', PAGE, re.MULTILINE)[0]
    header, _, *rows = [[c.strip() for c in row.split('|')[1:-1]] for row in found.splitlines()]
    return header, rows


def number(text):
    return float(text.replace(',', ''))


def points(method, benchmark='fgvc', task='cub'):
    with pass_arguments(dict(task=task, pretraining='mae', method=method)):
        return math.prod(map(len, default_grid(resolve_experiment(benchmark)).values()))


def gflop(method, num_tokens):
    header, rows = table('P |')
    (row,) = [r for r in rows if f'`{method}`' in r[0]]
    return number(row[header.index(str(num_tokens))])


def test_numbers_of_runs():
    _, rows = table('method | points of the default grid')
    for methods, _, runs in rows:
        for method in re.findall('`([^`]+)`', methods):
            assert int(runs) == points(method) + SEEDS, method


def test_fgvc():
    header, rows = table('| train + val |')
    sums = dict.fromkeys(header[2:], 0.0)
    assert len(rows) == len(FGVC_TASKS) + 1
    for task, row in zip(FGVC_TASKS.values(), rows, strict=False):
        assert row[1] == f'{task.num_train:,} + {task.num_val:,}'
        for name, cell in zip(header[2:], row[2:], strict=True):
            method = name.strip('`')
            num_tokens = {'vpt-deep': 10, 'bilinear-deep': 50}.get(method, 100)
            images = (points(method) + SEEDS) * task.num_train  # the final runs, too
            work = EPOCHS * images * gflop(method, num_tokens) / 1e6
            sums[name] += work
            assert number(cell) == pytest.approx(work, rel=6e-3), (row[0], name)
    for name, cell in zip(header[2:], rows[-1][2:], strict=True):
        assert number(cell) == pytest.approx(sums[name], rel=6e-3), name


def test_vtab1k():
    _, rows = table('at ten prompts |')
    for name, one, search, all_of_them, runs in rows:
        method = name.strip('`')
        work = gflop(method, 10) * EPOCHS / 1e6
        count = points(method, 'vtab1k', 'dtd')
        assert number(one) == pytest.approx(800 * work, rel=2e-2)
        assert number(search) == pytest.approx((count * 800 + SEEDS * 1000) * work, rel=6e-3)
        assert number(all_of_them) == pytest.approx(
            len(VTAB_TASKS) * (count * 800 + SEEDS * 1000) * work, rel=6e-3
        )
        assert int(runs) == len(VTAB_TASKS) * (count + SEEDS)


def test_ade20k():
    _, rows = table('| GFLOP per crop |')
    assert len(rows) > 5
    for name, per_crop, total, slow, fast in rows:
        work = 160_000 * 16 * number(per_crop) / 1e6
        assert number(total) == pytest.approx(work, rel=6e-3), name
        assert number(slow) == pytest.approx(work / 36, rel=1e-2), name
        assert number(fast) == pytest.approx(work / 360, rel=2e-2), name


def test_the_summary_agrees_with_the_tables():
    _, rows = table('table | runs')
    for name, _, work, slow, fast in rows:
        assert number(slow) == pytest.approx(number(work) / 36, rel=2e-2), name
        assert number(fast) == pytest.approx(number(work) / 360, rel=9e-2), name
    by_name = {row[0]: row for row in rows}
    lspt = table('| train + val |')[0].index('`lspt`')
    whole = number(table('| train + val |')[1][-1][lspt])
    (fgvc_row,) = [row for name, row in by_name.items() if name.startswith('FGVC, LSPT')]
    assert number(fgvc_row[2]) == pytest.approx(whole, rel=1e-2)
    assert int(fgvc_row[1]) == len(FGVC_TASKS) * (points('lspt') + SEEDS)
