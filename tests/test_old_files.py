"""Files that b511598 wrote, against what b511598 itself gave for them (data/b511598/README.md)."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
from miniatures import run_tool

from lspt_mm.analysis.runs import find_run
from lspt_mm.apis import init_model
from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.config.load import read_config_file
from lspt_mm.models import PromptedViT, PromptSets

OLD = Path(__file__).parent / 'data/b511598'
EXPECTED = json.loads((OLD / 'expected.json').read_text())
IMAGES = torch.linspace(-2, 2, 3 * 32 * 32).mul(7).sin().reshape(1, 3, 32, 32)
CHECKPOINTS = {'segmentation': 'iter_4.pth', 'classification': 'epoch_2.pth'}


@pytest.fixture
def old(tmp_path, monkeypatch):
    """A copy, as the current folder: the paths in its configs are relative."""
    folder = tmp_path / 'old'
    shutil.copytree(OLD, folder)
    for split in ('train', 'val'):
        (folder / 'prepared' / split).symlink_to(folder / 'images' / split)
    monkeypatch.chdir(folder)
    return folder


def tool(name, *arguments):
    run = run_tool(name, *arguments)
    assert run.code == 0, run.err[-3000:]
    return run


def approx(values):
    return pytest.approx(values, rel=1e-3)


def assert_same(found, expected):
    assert list(found.shape) == expected['shape']
    assert found.sum().item() == approx(expected['sum'])
    assert found.square().sum().item() == approx(expected['sum_of_squares'])
    assert found.flatten()[:6].tolist() == approx(expected['first'])


@pytest.mark.parametrize('checkpoint', EXPECTED['logits'])
def test_models_compute_what_they_computed(checkpoint, old):
    task = 'classification' if 'epoch' in checkpoint else 'segmentation'
    model = init_model(f'{task}/{task}.py', checkpoint)
    with torch.no_grad():
        logits = model(IMAGES, mode='tensor')
    assert_same(logits, EXPECTED['logits'][checkpoint])


@pytest.mark.parametrize('checkpoint', [c for c in EXPECTED['logits'] if 'published' in c])
def test_prompt_sets_compute_what_they_computed(checkpoint, old):
    backbone = dict(read_config_file('segmentation/segmentation.py').model.backbone)
    del backbone['type'], backbone['prompter']
    vit = PromptedViT(**backbone)
    vit.init_weights()
    with torch.no_grad():
        maps = PromptSets(vit.eval(), {'old': checkpoint})(IMAGES, 'old')
    for found, expected in zip(maps, EXPECTED['prompt_sets'], strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize('task', CHECKPOINTS)
def test_tests_give_the_same_metrics(task, old):
    tool('test.py', f'{task}/{task}.py', f'{task}/{CHECKPOINTS[task]}', '--work-dir', 'again')
    (file,) = Path('again').glob('*/*.json')
    found = json.loads(file.read_text())
    assert {key: found[key] for key in EXPECTED['tested'][task]} == EXPECTED['tested'][task]


@pytest.mark.parametrize(
    ('task', 'length'), [('segmentation', 'max_iters=6'), ('classification', 'max_epochs=3')]
)
def test_runs_go_on(task, length, old):
    before = (old / task / 'log.jsonl').read_text().splitlines()
    tool(
        'train.py', f'{task}/{task}.py', '--work-dir', task, '--resume', '--cfg-options',
        f'train_cfg.{length}', f'train_cfg.val_interval={length[-1]}',
    )  # fmt: skip
    lines = (old / task / 'log.jsonl').read_text().splitlines()
    assert lines[: len(before)] == before
    found = [json.loads(line) for line in lines[len(before) :]]
    assert len(found) == len(EXPECTED['resumed'][task])
    for line, expected in zip(found, EXPECTED['resumed'][task], strict=True):
        assert line.pop('mode') == expected['mode']
        assert line == approx({key: expected[key] for key in expected if key != 'mode'})


def test_published_anew_they_hold_the_same_tensors(old):
    tool('model_converters/publish_model.py', 'segmentation/segmentation.py',
         'segmentation/iter_4.pth', 'again/segmentation')  # fmt: skip
    (file,) = Path('again').glob('*.pth')
    (before,) = Path('published').glob('*.pth')
    found, expected = (read_checkpoint(str(path))['state_dict'] for path in (file, before))
    assert found.keys() == expected.keys()
    # What is not a weight says where the weights are from, in this version's words.
    weights = [name for name in expected if expected[name].is_floating_point()]
    assert len(weights) > 10
    assert all(torch.equal(found[name], expected[name]) for name in weights)


def test_predictions_are_the_same(old):
    tool(
        'predict.py', 'classification/classification.py', 'classification/epoch_2.pth',
        'images/val', '--out', 'out', '--top', 3,
    )  # fmt: skip
    found = list(csv.reader(Path('out/predictions.csv').read_text().splitlines()))
    expected = list(csv.reader(EXPECTED['predicted']))
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    for row, same in zip(found[1:], expected[1:], strict=True):
        assert float(row[3]) == pytest.approx(float(same[3]), abs=1e-4)


@pytest.mark.parametrize('task', CHECKPOINTS)
def test_finished_runs_are_found(task, old):
    run = find_run(task)
    assert run.checkpoint.name == CHECKPOINTS[task]
    assert EXPECTED['tested'][task].items() <= run.tests['test'].items()
    log = [json.loads(line) for line in Path(task, 'log.jsonl').read_text().splitlines()]
    assert run.iterations == log[-1]['iter']
    assert [line['loss'] for line in log if 'loss' in line] == [y for _, y in run.curves['loss']]


def test_tables_of_searches(old):
    run = tool('analysis_tools/table.py', 'search', '--format', 'csv')
    head, row = csv.reader(run.out.splitlines())
    # Accuracies of 66.67 and 100 % in the results of its two seeds.
    assert dict(zip(head, row, strict=True))['prepared'] == '83.33 ± 23.57'


def test_a_finished_search_is_finished(old):
    before = Path('search/results.csv').read_text()
    loaders = [
        f'{name}_dataloader.{key}' for name in ('train', 'val', 'test')
        for key in ('num_workers=0', 'persistent_workers=False')
    ]  # fmt: skip
    config = 'imagefolder/transfer.py:task=prepared,head=paper,method=vpt,arch=deit-tiny'
    run = tool(
        'search.py', f'{config},img_size=32,patch_size=8,num_tokens=2,epochs=1,batch_size=2',
        '--grid', 'lr=0.01,0.1', '--seeds', 1, 2, '--random-backbone', '--work-dir', 'search',
        '--cfg-options', *loaders,
    )  # fmt: skip
    assert 'test top-1 83.33 ± 23.57 (2 seeds)' in run.out
    assert Path('search/results.csv').read_text() == before
    assert not list(Path('search').rglob('log.txt'))  # no run was begun
