"""Small tables: which runs, which rates, which ranks."""

import csv
import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from miniatures import ROOT
from mmengine.config import Config

from lspt_mm.errors import InputError
from lspt_mm.search.ranking import mean_ranks
from lspt_mm.search.small_tables import Run, SmallTables
from lspt_mm.search.summary import tables_of

# ---- ranks --------------------------------------------------------------------------------------


def test_the_best_everywhere_is_first_without_doubt():
    scores = {task: {'b': [1.0, 2.0], 'a': [3.0, 4.0], 'c': [0.0, 0.5]} for task in 'xyz'}
    ranks = mean_ranks(scores, draws=200)
    assert list(ranks) == ['a', 'b', 'c']
    assert [tuple(rank) for rank in ranks.values()] == [(m, m, m, m - 1, 0) for m in (1, 2, 3)]


def test_two_tasks_that_disagree():
    # Draws are (x, x), (x, y), (y, x) or (y, y): a mean rank of 1, 1.5, 1.5 or 2.
    rank = mean_ranks({'x': {'a': [1], 'b': [0]}, 'y': {'a': [0], 'b': [1]}}, 20_000)['b']
    assert (rank.mean, rank.low, rank.high, rank.gap) == (1.5, 1, 2, 0)
    assert rank.gap_error == pytest.approx(0.5**0.5, rel=0.02)  # b - a is 1, 0, 0 or -1


def test_seeds_are_drawn_and_paired():
    # One of two seeds favours b by more than the other favours a: a wins where only seed 0 is
    # drawn, in a quarter of the draws. Seeds drawn apart for each method would give more.
    rank = mean_ranks({'x': {'a': [1, 0], 'b': [0, 2]}}, 20_000)['a']
    assert (rank.mean, rank.gap) == (2, 1)
    assert rank.gap_error == pytest.approx(2 * (0.25 * 0.75) ** 0.5, rel=0.03)  # 1, or -1


def test_equal_scores_share_a_rank():
    assert mean_ranks({'x': {'a': [1], 'b': [1]}})['b'].mean == 1.5


@pytest.mark.parametrize('of_y', [{'a': [1, 2]}, {'a': [1, 2], 'b': [1]}])
def test_incomplete_scores_are_refused(of_y):
    with pytest.raises(InputError, match='y: seeds by method'):
        mean_ranks({'x': {'a': [1, 2], 'b': [1, 2]}, 'y': of_y})


# ---- runs ---------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    about = {'name': 'flowers36', 'classes': list('ab'), 'held_out': 'test'}
    (tmp_path / 'data/flowers36').mkdir(parents=True)
    (tmp_path / 'data/flowers36/about.json').write_text(json.dumps(about))
    return tmp_path / 'data'


class Pretender:
    """Scores runs by their learning rate, and reads their configs."""

    def __init__(self, score):
        self.score, self.seen, self.configs = score, [], {}

    def __call__(self, folders, on_done):
        for folder in folders:
            run = '/'.join(folder.parts[-3:])
            self.seen.append(run)
            self.configs[run] = Config.fromfile(folder / 'config.py')
            rate = float(run.split('lr=')[1].split(',')[0]) if 'lr=' in run else None
            result = {
                'accuracy': self.score(run, rate), 'seconds': 1.0, 'baseline': 50.0,
                'trainable': {'prompts': 7, 'backbone': 3, 'head': 5, 'all': 99},
            }
            (folder / 'result.json').write_text(json.dumps(result))
            on_done(folder, 0)


def three_rates(run, rate):
    """The middle one of VPT-deep's three rates is best."""
    return 11.0 if rate == 0.003 else 10.0


def execute(tables, launcher):
    tables.run(tables.fits(), launcher, lambda run, code: None)
    for method in tables.methods:
        while any(tables.score(run) is None for run in tables.selection(method)):
            tables.run(tables.selection(method), launcher, lambda run, code: None)
        tables.run(tables.final(method), launcher, lambda run, code: None)
        tables.run(tables.longer(method), launcher, lambda run, code: None)


def make(tmp_path, data, tasks=('eurosat', 'caltech101'), methods=('vpt-deep',)):
    return SmallTables(tmp_path / 'runs', str(data), 'supervised', tasks, methods)


def test_rates_are_chosen_on_the_mean_of_two_tasks_and_then_kept(tmp_path, data):
    best = {
        'eurosat': {0.0003: 49, 0.001: 60, 0.003: 50, 0.01: 70},
        'flowers36': {0.0003: 50, 0.001: 40, 0.003: 50, 0.01: 9},
    }
    launcher = Pretender(lambda run, rate: best.get(run.split('/')[0], {}).get(rate, 1.0))
    tables = make(tmp_path, data)
    execute(tables, launcher)
    # Means 50, 50 and 39.5: the smaller of equals, the lowest rate, so that 49.5 of the next one
    # is seen. Flowers36 is no task, but decides.
    assert [name for name in launcher.seen if 'selection' in name] == [
        f'{task}/vpt-deep/selection,lr={lr},seed=0'
        for rates in (('0.001', '0.003', '0.01'), ('0.0003',))
        for task in ('eurosat', 'flowers36') for lr in rates
    ]
    assert [name for name in launcher.seen if 'final' in name] == [
        'eurosat/linear/final,seed=1', 'caltech101/linear/final,seed=1',
        *(f'{task}/vpt-deep/final,lr=0.001,seed={seed}'
          for task in ('eurosat', 'caltech101') for seed in (1, 2, 3)),
    ]
    selection = launcher.configs['eurosat/vpt-deep/selection,lr=0.003,seed=0']
    assert selection.test_dataloader is None
    assert selection.optim_wrapper.optimizer == dict(type='AdamW', lr=0.003, weight_decay=0)
    assert selection.train_cfg.max_epochs == selection.train_cfg.val_interval == 5
    final = launcher.configs['caltech101/vpt-deep/final,lr=0.001,seed=2']
    assert final.val_dataloader is None and final.randomness.seed == 2
    assert final.train_dataloader.dataset.split == 'train800'
    longer = [name for name in launcher.seen if '/x' in name]
    assert longer == [f'{task}/vpt-deep/x{n},lr=0.001,seed=1'
                      for task in ('eurosat', 'caltech101') for n in (2, 4)]
    assert launcher.configs[longer[1]].train_cfg.max_epochs == 20


@pytest.mark.parametrize(('peak', 'tried'), [
    (0.1, [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]), (1.0, [0.001, 0.003, 0.01, 0.03, 0.1, 0.3]),
    (0.0001, [3e-5, 0.0001, 0.0003, 0.001, 0.003, 0.01]),
])
def test_rates_go_on_while_the_best_is_the_first_or_last(peak, tried, tmp_path, data):
    tables = make(tmp_path, data)
    execute(tables, Pretender(lambda run, rate: 0 if rate is None else -abs(np.log(rate / peak))))
    assert [run.lr for run in tables.selection('vpt-deep')] == 2 * tried
    assert tables.rate('classification', 'vpt-deep') == min(peak, 0.3)


def test_runs_of_other_weights_or_lists_are_not_mixed(tmp_path, data):
    def check(weights, tasks):
        folder = tmp_path / 'runs'
        SmallTables(folder, str(data), str(tmp_path / weights), tasks, ['vpt']).check_inputs()

    for name in 'ab':
        (tmp_path / name).write_text(name)
    (data / 'vtab-1k/eurosat').mkdir(parents=True)
    (data / 'vtab-1k/eurosat/val200.txt').write_text('y.jpg 0')
    check('b', ['eurosat'])  # no run was finished
    (tmp_path / 'runs/results.csv').write_text(
        'task,method,phase,lr,seed\nflowers36,linear,final,,1\n')
    check('b', ['eurosat'])
    with pytest.raises(InputError, match='runs holds runs with other weights than now'):
        check('a', ['eurosat'])
    (data / 'vtab-1k/eurosat/test.txt').write_text('x.jpg 0')
    with pytest.raises(InputError, match='runs holds runs with other eurosat than now'):
        check('b', ['caltech101'])  # whose rate is chosen on EuroSAT


def test_finished_runs_are_not_repeated_even_without_their_folders(tmp_path, data):
    launcher = Pretender(three_rates)
    tables = make(tmp_path, data)
    execute(tables, launcher)
    rows = tables.write()
    assert len(rows) == 6 + 2 + 6 + 4
    text = (tmp_path / 'runs/results.csv').read_bytes()
    for folder in ('eurosat', 'flowers36', 'caltech101'):
        shutil.rmtree(tmp_path / 'runs' / folder)
    again = Pretender(lambda run, rate: 99.0)
    tables = make(tmp_path, data)
    execute(tables, again)
    tables.write()
    assert not again.seen
    assert (tmp_path / 'runs/results.csv').read_bytes() == text
    with open(tmp_path / 'runs/results.csv', newline='') as file:
        row = next(row for row in csv.DictReader(file) if row['phase'] == 'final')
    assert (row['task'], row['method'], row['lr'], row['trained']) == (
        'caltech101', 'linear', '', '10',
    )


def test_tested_runs_of_another_rate_are_kept_but_not_in_the_tables(tmp_path, data):
    tables = make(tmp_path, data)
    execute(tables, Pretender(three_rates))
    tables.write()
    path = tmp_path / 'runs/results.csv'
    others = 'classification,caltech101,vpt-deep,final,0.01,{},99.00,50.00,10,1.0\n'
    path.write_text(path.read_text() + ''.join(others.format(seed) for seed in (1, 2, 3)))
    rows = make(tmp_path, data).write()
    assert len(rows) == 6 + 2 + 6 + 4 and '99' not in tables_of(rows)
    assert path.read_text().count('99.00') == 3


PARENT = """
import runpy, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
tool = runpy.run_path(sys.argv[1], run_name='tool')
print('started', flush=True)
tool['exit_code']([sys.executable, '-c', sys.argv[2]])
"""
CHILD = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
pathlib.Path({ready!r}).touch()
time.sleep(60)
"""


@pytest.mark.parametrize(('code', 'want'), [(75, 75), (1, 143)])
def test_a_signal_reaches_the_run_and_its_code_comes_back(code, want, tmp_path):
    ready = tmp_path / 'ready'
    parent = subprocess.Popen([
        sys.executable, '-c', PARENT, str(ROOT / 'tools/reproduce.py'),
        CHILD.format(code=code, ready=str(ready)),
    ], cwd=ROOT)
    while not ready.exists() and parent.poll() is None:
        time.sleep(0.05)
    parent.terminate()
    assert parent.wait(60) == want


def test_names_of_runs_are_folders():
    assert Run('drive', 'lspt', 'final', 3e-4, 2).name == 'drive/lspt/final,lr=0.0003,seed=2'


# ---- tables -------------------------------------------------------------------------------------


def row(task, method, seed, score, table='classification', phase='final'):
    return dict(table=table, task=task, method=method, phase=phase, lr='0.1', seed=str(seed),
                score=str(score), baseline='', trained='1000', seconds='1')


def test_tables():
    rng = np.random.default_rng(0)
    rows = [row('a', 'linear', 1, 50.0), row('a', 'vpt', 0, 99.0, phase='selection')]
    for method, level in (('vpt', 60), ('lspt', 70)):
        for task in 'ab':
            scores = level + rng.random(3)
            rows += [row(task, method, seed, s) for seed, s in enumerate(scores, 1)]
    rows += [row('c', m, s, 1, table='masks') for m in ('vpt', 'lspt') for s in (1, 2, 3)]
    rows += [row(task, 'lspt-no-lpc', s, 1.0, t) for task, t in
             (('a', 'classification'), ('b', 'classification'), ('c', 'masks')) for s in (1, 2, 3)]
    rows += [row('a', 'lspt', 1, 71, phase='x2'), row('a', 'lspt', 1, 72, phase='x4')]
    text = tables_of(rows)
    first = next(r['score'] for r in rows if (r['method'], r['task']) == ('lspt', 'a'))
    assert f'| LSPT | {first}, 71, 72 |\n' in text
    classification = text[: text.index('| masks')].splitlines()
    assert classification[0] == '| classification | trained in the ViT | a | b | mean |'
    assert [line.split(' | ')[0] for line in classification[2:5]] == [
        '| LSPT', '| VPT-shallow', '| LSPT without LPC',
    ]
    assert ' ± ' in classification[2] and '99' not in text
    assert '| LSPT | 1.17 |' in text  # first on two tasks, level on the third
    assert text.count('| VPT-shallow | 1.83 |') == 1 and 'without' not in text[text.index('rank'):]


def test_a_certain_difference_is_printed():
    rows = [row(task, method, seed, score) for task in 'ab' for seed in (1, 2)
            for method, score in (('lspt', 2.0), ('vpt', 1.0))]
    text = tables_of(rows)
    assert '| LSPT | 1.00 | 1.00 to 1.00 |  |' in text
    assert '| VPT-shallow | 2.00 | 2.00 to 2.00 | 1.00 ± 0.00 |' in text
