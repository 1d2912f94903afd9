"""Classes learnt in tasks: splits, averages, what continues from task to task, and the tool."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from miniatures import ARCH, run_ok, run_tool, write_image_folder, write_vit

from lspt_mm.apis.continual import scores_of, split_classes, train_continual
from lspt_mm.apis.model import init_model
from lspt_mm.apis.predict import image_pipeline
from lspt_mm.converters.image_folder import prepare_image_folder
from lspt_mm.errors import InputError

CLASSES = ('ant', 'bee', 'cat', 'dog', 'elk')
OPTIONS = {
    'arch': ARCH, 'patch_size': 8, 'img_size': 32, 'epochs': 2, 'num_tokens': 3, 'batch_size': 4,
    'default_hooks.checkpoint.interval': 1,
    **{f'{split}_dataloader.{name}': value for split in ('train', 'val', 'test')
       for name, value in (('num_workers', 0), ('persistent_workers', False))},
}


# ---- arithmetic -------------------------------------------------------------------------------


def test_averages_and_forgetting():
    scores = scores_of([[90.0], [80.0, 70.0], [60.0, 75.0, 50.0], [55.0, 65.0, 40.0, 100.0]])
    assert scores.average_accuracy == pytest.approx((55 + 65 + 40 + 100) / 4)
    # Drops from 90, from 75 (not 70) and from 50.
    assert scores.forgetting == pytest.approx((35 + 10 + 10) / 3)
    rows = (90, 75, (60 + 75 + 50) / 3, 65)
    assert scores.average_incremental_accuracy == pytest.approx(sum(rows) / 4)


def test_forgetting_is_negative_if_tasks_gain():
    assert scores_of([[50.0], [60.0, 10.0]]).forgetting == -10


@pytest.mark.parametrize(('count', 'splits', 'sizes'), [(36, 5, [8, 7, 7, 7, 7]), (4, 2, [2, 2])])
def test_classes_are_divided_once_each_by_the_seed(count, splits, sizes):
    tasks = split_classes(count, splits, seed=3)
    assert [len(task) for task in tasks] == sizes
    assert sorted(sum(tasks, [])) == list(range(count))
    assert tasks == split_classes(count, splits, seed=3)
    assert count == 4 or tasks != split_classes(count, splits, seed=4)


# ---- runs -------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('continual')
    write_image_folder(folder / 'images', CLASSES, train=4, val=2)
    prepare_image_folder(folder / 'images', folder / 'data')
    write_vit(folder / 'vit.pth')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield folder
    torch.set_num_threads(threads)


def train(folder, out, **more):
    given = dict(splits=2, backbone=str(folder / 'vit.pth'), method='nsp2', options=OPTIONS)
    return train_continual(folder / 'data', folder / out, **{**given, **more})


@pytest.fixture(scope='module')
def trained(folder):
    return train(folder, 'nsp2')


def end_of(folder, run, task):
    return torch.load(folder / run / f'task_{task}/end.pth', weights_only=True)['state_dict']


def test_results_are_in_its_file(folder, trained):
    found = json.loads((folder / 'nsp2/continual.json').read_text())
    assert found['accuracies'] == trained.accuracies
    assert found['forgetting'] == trained.forgetting
    assert [len(row) for row in trained.accuracies] == [1, 2]
    assert sorted(sum(found['tasks'], [])) == sorted(CLASSES)
    for number, names in enumerate(found['tasks'], 1):
        images = json.loads((folder / f'nsp2/task_{number}/images_train.json').read_text())
        assert len(images) == 4 * len(names)
        for image, label in images.items():
            assert Path(image).parent.name == names[label]


def test_prompts_continue_and_are_consolidated(folder, trained):
    one, two = (end_of(folder, 'nsp2', task) for task in (1, 2))
    prefix = 'backbone.prompter.'
    assert int(one[f'{prefix}num_tasks']) == 1 and int(two[f'{prefix}num_tasks']) == 2
    assert torch.equal(one[f'{prefix}prompts'], one[f'{prefix}last_prompts'])
    change = two[f'{prefix}prompts'] - one[f'{prefix}prompts']
    assert 0 < change.abs().max() < 0.5  # of prompts from U(-1, 1), whose seed is the same
    # Of the task's own classes; the ViT is not in the file.
    names = json.loads((folder / 'nsp2/continual.json').read_text())['tasks']
    assert [len(end['head.fc.weight']) for end in (one, two)] == [len(task) for task in names]
    assert 'backbone.layers.0.attn.qkv.weight' not in one


def test_accuracies_are_those_of_the_joined_heads(folder, trained):
    """By single images and the models of the runs, with the ViT and prompts of the last one."""
    tasks = json.loads((folder / 'nsp2/continual.json').read_text())['tasks']
    models = []
    for number in range(1, len(tasks) + 1):
        run = folder / f'nsp2/task_{number}'
        models.append(init_model(run / 'transfer.py', run / 'epoch_2.pth', device='cpu'))
    last, pipeline = models[-1], image_pipeline(models[-1].cfg)
    names = sum(tasks, [])
    for number, task in enumerate(tasks):
        images = json.loads((folder / f'nsp2/task_{number + 1}/images_val.json').read_text())
        right = []
        for name, label in images.items():
            data = pipeline(str(folder / 'data' / name))
            packed = last.data_preprocessor({k: [v] for k, v in data.items()}, False)
            with torch.no_grad():
                features = last.backbone(packed['inputs'])
                logits = torch.cat([one.head(one.neck(features)) for one in models], 1)
            right.append(names[int(logits.argmax())] == task[label])
        assert trained.accuracies[-1][number] == pytest.approx(100 * np.mean(right))


def test_resumed_after_a_killed_task_it_is_the_same(folder, trained):
    again = folder / 'again'
    train(folder, 'again')
    for name in ('accuracy.json', 'end.pth', 'epoch_2.pth', 'last_checkpoint'):
        (again / 'task_2' / name).unlink()
    scores = train(folder, 'again', resume=True)
    assert scores == trained
    for task in (1, 2):
        a, b = (end_of(folder, run, task) for run in ('nsp2', 'again'))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize('method', ['linear', pytest.param('spt', marks=pytest.mark.slow), 'lora'])
def test_other_methods(folder, method):
    scores = train(folder, method, method=method, options={**OPTIONS, 'epochs': 1})
    assert all(0 <= value <= 100 for row in scores.accuracies for value in row)
    end = end_of(folder, method, 2)
    assert any(name.startswith('backbone.') for name in end) == (method != 'linear')


@pytest.mark.slow
def test_tool_prints_the_table(folder, trained):
    options = [f'{k}={v}' for k, v in OPTIONS.items() if k != 'arch']
    options.append('arch=' + json.dumps(ARCH).replace(' ', ''))
    run = run_ok(
        'continual.py', '--task', folder / 'data', '--splits', '2', '--backbone',
        folder / 'vit.pth', '--out', folder / 'tool', '--options', *options,
    )
    lines = run.out.splitlines()
    (start,) = [i for i, line in enumerate(lines) if line.startswith('after task')]
    rows = [[float(x) for x in line.split()] for line in lines[start + 1 : start + 3]]
    found = json.loads((folder / 'tool/continual.json').read_text())['accuracies']
    assert found == trained.accuracies
    for number, (row, want) in enumerate(zip(rows, found, strict=True), 1):
        assert row == pytest.approx([number, *want, np.mean(want)], abs=0.006)
    assert f'forgetting {trained.forgetting:.2f}' in run.out


# ---- errors -----------------------------------------------------------------------------------


def test_too_many_splits(folder):
    with pytest.raises(InputError, match='splits=3: expected at most 2, .* of the 5 classes'):
        train(folder, 'x', splits=3)
    with pytest.raises(InputError, match='splits=1'):
        train(folder, 'x', splits=1)
    assert not (folder / 'x').exists()


def test_results_are_not_overwritten_nor_mixed(folder, trained):
    with pytest.raises(InputError, match=r'nsp2 has a run \(continual.json\); resume=True'):
        train(folder, 'nsp2')
    with pytest.raises(InputError, match='of other settings, seed=0, tasks=.*; resume with'):
        train(folder, 'nsp2', resume=True, seed=1)


def test_a_second_call_while_one_is_at_work(folder, tmp_path):
    with FileLock(tmp_path / '.lock'), pytest.raises(InputError, match='another run is at work'):
        train(folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ['.lock']


def test_what_tasks_cannot_have(folder):
    with pytest.raises(InputError, match='balance=weights: expected none'):
        train(folder, 'x', options={**OPTIONS, 'balance': 'weights'})
    for method in ('da-vpt', 'dapt'):
        with pytest.raises(InputError, match=f'method={method}: its losses belong to the classes'):
            train_continual(folder / 'data', folder / 'x', splits=2, method=method)
    with pytest.raises(InputError, match='nowhere/about.json does not exist'):
        train_continual('nowhere', folder / 'x')
    about = json.loads((folder / 'data/about.json').read_text())
    (folder / 'several').mkdir()
    (folder / 'several/about.json').write_text(json.dumps({**about, 'multi_label': True}))
    with pytest.raises(InputError, match='several is multi-label; expected one class'):
        train_continual(folder / 'several', folder / 'x')


def test_tool_names_the_error(folder):
    run = run_tool('continual.py', '--task', folder / 'data', '--splits', 9, '--out', folder / 'y')
    assert run.code == 2
    assert 'splits=9: expected at most 2' in run.err and 'Traceback' not in run.err


@pytest.mark.parametrize(('method', 'says'), [('linear', 'has prompter'), ('lora', 'has prompter')])
def test_warm_start_from_another_method_says_so(folder, trained, tmp_path, method, says):
    from lspt_mm.apis.training import run_config
    from lspt_mm.apis.training import train as train_config

    arguments = dict(task=str(folder / 'data'), pretraining=str(folder / 'vit.pth'), method=method)
    cfg = run_config('imagefolder/transfer.py', tmp_path / 'run', arguments, OPTIONS, 0, False)
    end = str(folder / 'nsp2/task_1/end.pth')
    cfg.custom_hooks.append(dict(type='lspt_mm.WarmStartHook', checkpoint=end))
    with pytest.raises(InputError, match=f'not of a backbone tuned as this one; it {says}'):
        train_config(cfg, progress=True)
