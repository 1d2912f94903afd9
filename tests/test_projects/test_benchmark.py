"""The benchmark's rows: which cases, whose memory, whose work. No times are looked at."""

import csv
import runpy
import subprocess
import sys

import pytest
import torch
from miniatures import CONFIGS

from lspt_mm.analysis.flops import count_flops
from projects.benchmark.cases import METHODS, Case
from projects.benchmark.measure import (
    measure_memory,
    measure_times,
    peak_of_tensors,
    peak_resident,
    relative_to_plain,
)

TINY = {'embed_dims': 16, 'num_layers': 3, 'num_heads': 4, 'feedforward_channels': 32}
SMALL = {'arch': TINY, 'img_size': 32, 'batch': 2, 'num_tokens': 5}
TOOL = CONFIGS.parent / 'projects/benchmark/benchmark.py'


def tool(*args, cwd=None):
    return subprocess.run(
        [sys.executable, '-m', 'lspt_mm', 'benchmark', *map(str, args)], capture_output=True,
        text=True, cwd=cwd,
    )


@pytest.mark.parametrize('training', [True, False])
def test_work_is_that_of_one_step(training):
    cases = [Case(name, training=training, **SMALL) for name in ('plain', 'vpt-deep', 'lspt')]
    rows = measure_times(cases, rounds=1, warm_up=1)
    for case, row in zip(cases, rows, strict=True):
        step = case.build()
        step()  # in eval mode the second step knows the keys of fixed prompts
        assert row['gflops'] == sum(count_flops(step).values()) / 1e9
        assert row['fraction'] == pytest.approx(row['gflops'] / row['seconds'] / row['rate'])
        assert 0 < row['fastest'] <= row['seconds'] <= row['slowest']
    plain, deep, lspt = (row['gflops'] for row in rows)
    assert lspt > deep and lspt > plain


def test_plain_pays_for_the_gradient_of_its_tokens_and_for_no_weight():
    step = Case('plain', **SMALL).build()
    step()
    assert all(p.grad is None for p in step.model.parameters())
    counts = count_flops(step)
    forward = count_flops(Case('plain', training=False, **SMALL).build())
    # One product behind every one of the blocks' linear layers; none behind the patch embedding.
    assert counts['mm'] == counts['addmm'] == forward['addmm']


@pytest.mark.parametrize('name', METHODS)
def test_every_method_runs(name):
    Case(name, **SMALL).build()()


def test_configs_say_themselves_what_vit_they_have():
    paths = [str(CONFIGS / f'{n}.py') for n in (
        'lspt_upernet_ade20k', 'ade20k/lspt_upernet_ade20k_vit-l')]
    args = ['benchmark.py', '--configs', *paths, '--num-tokens', '1', '2']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', args)
        module = runpy.run_path(str(TOOL))
        cases = module['cases_of'](module['parse_args']())
    assert [(c.name, c.arch, c.num_tokens, c.img_size) for c in cases] == [
        (path, None, 0, 512) for path in paths
    ]


def test_the_plain_vits_lack_of_prompts_is_no_difference():
    module = runpy.run_path(str(TOOL))
    rows = [
        {'name': name, 'img_size': size, 'num_tokens': tokens, 'batch': 2}
        for size in (224, 448) for name, tokens in [('plain', 0), ('lspt', 100), ('vpt', 100)]
    ]
    names = ['img_size', 'num_tokens', 'batch']
    assert module['settings_that_differ'](rows, names) == ['img_size']
    rows[1]['num_tokens'] = 10
    assert module['settings_that_differ'](rows, names) == ['img_size', 'num_tokens']


def test_units_are_those_of_the_plain_vit_on_the_same_images():
    same = {'training': True, 'img_size': 32, 'arch': 'base', 'num_layers': None}
    same |= {'dtype': 'fp32', 'device': 'cpu'}
    rows = [
        {'name': name, 'batch': batch, 'seconds': seconds, **same}
        for name, batch, seconds in [('plain', 1, 2.0), ('lspt', 1, 3.0), ('plain', 8, 10.0),
                                     ('lspt', 8, 20.0), ('lspt', 9, 1.0)]
    ]
    relative_to_plain(rows)
    assert [row['times'] for row in rows[:4]] == [1.0, 1.5, 1.0, 2.0]
    assert rows[4]['times'] != rows[4]['times']


@pytest.mark.slow
def test_memory_is_that_of_the_case_and_not_of_this_process():
    ballast = torch.ones(1 << 29)  # 2 GiB, here
    assert peak_resident() > 2 << 30
    found = measure_memory(Case('vpt', **SMALL), steps=1)
    assert found['before'] <= found['peak'] < 1.5 * 2**30
    assert ballast.sum() > 0
    larger = measure_memory(Case('vpt', **{**SMALL, 'img_size': 256, 'batch': 64}), steps=1)
    # Ten numbers a token, block and channel are kept, of the last block fewer; 4 bytes each.
    kept = 10 * 64 * 256 * 2 * 16 * 4
    assert larger['peak'] - found['peak'] > kept
    assert found['tensors'] < kept < larger['tensors'] < larger['peak'] - larger['before']


def test_the_peak_of_tensors_is_that_of_what_is_there_at_a_time():
    def step():
        first = torch.ones(1 << 20)  # 4 MiB
        second = first * 2
        del first
        third = torch.ones(1 << 18)  # 1 MiB
        return second.sum() + third.sum()

    held = torch.ones(1 << 20)  # from before, not the step's
    assert (8 << 20) <= peak_of_tensors(step) < (8 << 20) + 4096
    assert held.sum() > 0


def test_a_vit_of_another_depth():
    step = Case('lspt', **{**SMALL, 'num_layers': 2}).build()
    assert len(step.model.layers) == 2 and step.model.embed_dims == 16
    step()


@pytest.mark.slow
def test_the_tool_writes_table_and_figures(tmp_path):
    run = tool(
        '--arch', 'deit-tiny', '--img-size', 32, '--batch', 1, '--num-tokens', 2, 4, '--rounds', 1,
        '--methods', 'vpt-deep', 'lspt', '--reference', 'lspt', '--no-memory', '--threads', 1,
        '--out', 'bench/small', cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    with open(tmp_path / 'bench/small.csv') as file:
        rows = list(csv.DictReader(file))
    names = [(row['name'], row['num_tokens']) for row in rows]
    assert names == [
        ('plain', '0'), ('vpt-deep', '2'), ('lspt', '2'), ('lspt (reference)', '2'),
        ('vpt-deep', '4'), ('lspt', '4'), ('lspt (reference)', '4'),
    ]
    text = (tmp_path / 'bench/small.md').read_text()
    assert text.strip() in run.stdout
    assert '| lspt (reference) | 4 |' in text and 'peak' not in text


@pytest.mark.slow
def test_the_tool_refuses_what_it_cannot_run():
    for args, words in {
        ('--batch', '0'): '--batch 0: expected at least 1',
        ('--rounds', '0'): '--rounds 0: expected at least 1',
        ('--configs', 'nowhere.py'): 'config file nowhere.py does not exist',
        ('--configs', str(CONFIGS / 'pretrain/mae_vit_tiny_160px.py')): 'not a segmentation config',
    }.items():
        run = tool(*args)
        assert run.returncode == 2 and words in run.stderr, run.stderr
    if not torch.cuda.is_available():
        assert 'this machine has no GPU' in tool('--device', 'cuda').stderr


def test_a_segmentation_config_runs_with_its_optimizer():
    from lspt_mm.config.load import read_config

    found = {}
    for name in ('lspt_upernet_ade20k', 'ade20k/full_upernet_ade20k'):
        model = read_config(str(CONFIGS / f'{name}.py')).model.to_dict()
        model['backbone']['arch'] = dict(TINY, num_layers=12)
        model['neck'].update(embed_dim=16)
        model['decode_head'].update(in_channels=[16] * 4, channels=8)
        model['auxiliary_head'].update(in_channels=16, channels=8)
        step = Case(name, batch=2, img_size=64, config=model).build()
        before = [p.clone() for p in step.model.parameters()]
        step()
        moved = [
            n
            for (n, p), old in zip(step.model.named_parameters(), before, strict=True)
            if not torch.equal(p, old)
        ]
        found[name] = {n.split('.')[0] for n in moved if 'prompter' not in n}
    heads = {'neck', 'decode_head', 'auxiliary_head'}
    assert found == {'lspt_upernet_ade20k': heads,
                     'ade20k/full_upernet_ade20k': heads | {'backbone'}}
