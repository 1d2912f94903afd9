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
    # b - a is 1, 0, 0 or -1 in the draws. The mean of two differences of 1 and -1 has the error 1.
    assert rank.gap_error == pytest.approx(1, rel=0.02)


def test_seeds_are_drawn_and_paired():
    # One of two seeds favours b by more than the other favours a: a wins where only seed 0 is
    # drawn, in a quarter of the draws. Seeds drawn apart for each method would give more.
    rank = mean_ranks({'x': {'a': [1, 0], 'b': [0, 2]}}, 20_000)['a']
    assert (rank.mean, rank.gap) == (2, 1)
    assert rank.gap_error == pytest.approx(2 * (0.25 * 0.75) ** 0.5, rel=0.03)  # 1, or -1


@pytest.mark.parametrize('b', [[1, 1, 1], [0.1 + 0.2, 1.7, 1], [1.0003, 1.0003, 1.001]])
def test_equal_scores_share_a_rank(b):
    assert mean_ranks({'x': {'a': [1, 1, 1], 'b': b}})['b'].mean == 1.5


@pytest.mark.parametrize('of_y', [{'a': [1, 2]}, {'a': [1, 2], 'b': [1]}])
def test_incomplete_scores_are_refused(of_y):
    with pytest.raises(InputError, match='y: seeds by method'):
        mean_ranks({'x': {'a': [1, 2], 'b': [1, 2]}, 'y': of_y})


# ---- runs ---------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    about = {'name': 'flowers36', 'classes': list('ab'), 'images': {'train': 2, 'test': 2}}
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
            if np.isfinite(result['accuracy']):
                (folder / 'result.json').write_text(json.dumps(result))
            else:  # as a run that diverged ends
                (folder / 'run').mkdir(exist_ok=True)
                (folder / 'run/nonfinite_3_rank_0.json').touch()
            on_done(folder, 0)


def three_rates(run, rate):
    """The middle one of VPT-deep's three rates is best."""
    return 11.0 if rate == 0.003 else 10.0


def execute(tables, launcher):
    tables.run(tables.controls(), launcher, lambda run, code: None)
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
        *(f'{task}/head/final,seed={seed}'
          for task in ('eurosat', 'caltech101') for seed in (1, 2, 3)),
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
    head = launcher.configs['caltech101/head/final,seed=2']
    assert head.model.backbone.tune == 'nothing' and final.model.backbone.tune == 'prompts'
    for key in ('train_cfg', 'param_scheduler', 'train_dataloader', 'randomness'):
        assert head[key] == final[key], key
    wrappers = head.optim_wrapper, final.optim_wrapper
    for one in wrappers:
        assert one.optimizer.lr * one.paramwise_cfg.custom_keys.head.lr_mult == 0.003
    for one in (head, final):  # both from the recipe's start
        assert one.default_hooks.linear_baseline.soften == 5
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


def test_a_rate_that_diverges_is_never_chosen(tmp_path, data):
    tables = make(tmp_path, data)
    launcher = Pretender(lambda run, rate: float('nan') if rate and rate > 0.02 else rate or 0)
    execute(tables, launcher)
    assert tables.rate('classification', 'vpt-deep') == 0.01
    rows = [row for row in tables.write() if row['lr'] == '0.03']
    assert [row['score'] for row in rows] == ['nan', 'nan']
    again = Pretender(three_rates)
    execute(make(tmp_path, data), again)
    assert not again.seen


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
    assert len(rows) == 6 + 2 + 6 + 6 + 4
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
        row = next(row for row in csv.DictReader(file) if row['method'] == 'linear')
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
    assert len(rows) == 6 + 2 + 6 + 6 + 4 and '99.00' not in tables_of(rows)
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


def seeds_of(task, method, scores, table='classification'):
    return [row(task, method, seed, score, table) for seed, score in enumerate(scores, 1)]


def test_tables():
    rows = [row('a', 'linear', 1, 50.0), row('b', 'linear', 1, 54.0)]
    rows += [row('a', 'vpt', 0, 99.0, phase='selection')]
    for task in 'ab':
        rows += seeds_of(task, 'vpt', [60.0, 61.0, 62.0])
        rows += seeds_of(task, 'lspt', [70.0, 72.0, 71.0])
        rows += seeds_of(task, 'head', [58.0, 59.0, 60.0])
        rows += seeds_of(task, 'bias', [90.0, 90.0])  # a seed is missing
    rows += seeds_of('a', 'lspt-no-lpc', [70.0, 71.0, 69.0])
    rows += seeds_of('b', 'lspt-no-lpc', [70.0, 72.0, 71.0])
    rows += [*seeds_of('c', 'vpt', [1, 1, 1], 'masks'), *seeds_of('c', 'lspt', [1, 1, 1], 'masks')]
    rows += [row('a', 'lspt', 1, 71, phase='x2'), row('a', 'lspt', 1, 72, phase='x4')]
    rows += [row('b', 'vpt', 1, 61, phase='x2')]  # and x4 is missing
    text = tables_of(rows)
    lines = text[: text.index('| masks')].splitlines()
    assert lines[0] == (
        '| classification | trained in the ViT | rate | a | b | mean | over the probe |'
    )
    assert lines[2:8] == [
        '| Biases | 1,000 | 0.1 | 90.00 ± 0.00 | 90.00 ± 0.00 | 90.00 | +38.00 |',
        '| LSPT | 1,000 | 0.1 | 71.00 ± 1.00 | 71.00 ± 1.00 | 71.00 | +19.00 |',
        '| LSPT without LPC | 1,000 | 0.1 | 70.00 ± 1.00 | 71.00 ± 1.00 | 70.50 | +18.50 |',
        '| VPT-shallow | 1,000 | 0.1 | 61.00 ± 1.00 | 61.00 ± 1.00 | 61.00 | +9.00 |',
        '| Head alone | 1,000 | 0.1 | 59.00 ± 1.00 | 59.00 ± 1.00 | 59.00 | +7.00 |',
        '| Linear probe | 1,000 | 0.1 | 50.00 | 54.00 | 52.00 |  |',
    ]
    # 0, -1 and -2 on a, none on b: errors 1 / sqrt(3) and 0; of the means -1 and 0, 0.5.
    minus_lspt = lines.index('| minus LSPT | a | b | mean |')
    assert lines[minus_lspt + 2 : minus_lspt + 6] == [
        '| LSPT without LPC | -1.00 ± 0.58 | +0.00 ± 0.00 | -0.50 ± 0.50 |',
        '| VPT-shallow | -10.00 ± 0.58 | -10.00 ± 0.58 | -10.00 ± 0.00 |',
        '| Head alone | -12.00 ± 0.58 | -12.00 ± 0.58 | -12.00 ± 0.00 |',
        '',
    ]
    assert '| 2 methods, mean rank over a, b | rank | 95 % interval | to the first |' in lines
    assert '| seed 1, 1, 2, 4 times as long | a |' in text
    assert '| LSPT | 70.00, 71.00, 72.00 |\n' in text and '61.00, ' not in text
    overall = text[text.index('mean rank over a, b, c') :]
    assert '| LSPT | 1.17 |' in overall  # first on two tasks, level on the third
    assert '| VPT-shallow | 1.83 |' in overall and 'without' not in overall


def test_lspt_plus_is_ranked_in_place_of_lspt():
    score = {'lspt': 1.0, 'vpt': 2.0, 'lora': 3.0, 'lspt-plus': 4.0, 'lspt-no-lpc': 5.0}
    rows = [line for table in ('images', 'masks') for method in score
            for line in seeds_of(table, method, [score[method]] * 3, table)]
    text = tables_of(rows)
    assert text.count('| 3 methods, mean rank over images |') == 2
    overall = text[text.index('| 3 methods, mean rank over images, masks |') :]
    assert overall == '''\
| 3 methods, mean rank over images, masks | rank | 95 % interval | to the first |
|---|---|---|---|
| LoRA | 1.00 | 1.00 to 1.00 |  |
| VPT-shallow | 2.00 | 2.00 to 2.00 | 1.00 ± 0.00 |
| LSPT | 3.00 | 3.00 to 3.00 | 2.00 ± 0.00 |

| 3 methods, mean rank over images, masks | rank | 95 % interval | to the first |
|---|---|---|---|
| LSPT+ (ours) | 1.00 | 1.00 to 1.00 |  |
| LoRA | 2.00 | 2.00 to 2.00 | 1.00 ± 0.00 |
| VPT-shallow | 3.00 | 3.00 to 3.00 | 2.00 ± 0.00 |

'''


def test_a_certain_difference_is_printed():
    rows = [line for task in 'ab' for method, score in (('lspt', 2.0), ('vpt', 1.0))
            for line in seeds_of(task, method, [score] * 3)]
    text = tables_of(rows)
    assert '| LSPT | 1.00 | 1.00 to 1.00 |  |' in text
    assert '| VPT-shallow | 2.00 | 2.00 to 2.00 | 1.00 ± 0.00 |' in text


@pytest.mark.parametrize('scores', [[1.0, 2.0], [1.0, 2.0, float('nan')]])
def test_a_method_that_is_not_complete_has_no_rank(scores):
    rows = [*seeds_of('a', 'lspt', [1.0, 2.0, 3.0]), *seeds_of('a', 'vpt', [0.0, 1.0, 2.0])]
    rows += seeds_of('a', 'lora', scores)
    if np.isnan(scores[-1]):
        rows[-1]['trained'] = ''
    text = tables_of(rows)
    assert '| 2 methods, mean rank over a |' in text and '| LoRA | 1,000 | 0.1 |' in text
