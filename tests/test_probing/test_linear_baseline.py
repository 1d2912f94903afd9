"""LinearBaselineHook and LinearProbeLoop on a miniature run; features once for each image."""

import itertools
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from miniatures import ARCH, once, refused, run_ok, run_tool, write_classification
from mmengine.config import Config, ConfigDict
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from lspt_mm.apis import init_model
from lspt_mm.apis.predict import image_pipeline
from lspt_mm.config.load import read_config
from lspt_mm.deployment import Exportable
from lspt_mm.engine.hooks import linear_baseline_hook
from lspt_mm.engine.hooks.linear_baseline_hook import LinearBaselineHook, remarks
from lspt_mm.errors import InputError
from lspt_mm.models.standardize import Standardize
from lspt_mm.probing import frozen_features
from lspt_mm.search.plan import final_config
from lspt_mm.search.worker import Scores, run_folder
from lspt_mm.tasks import task_of

FITTED = """
_base_ = './mini_cls.py'
model = dict(
    backbone=dict(prompter=dict(_delete_=True, type='VPT', num_tokens=3)),
    neck=dict(type='lspt_mm.Standardize', in_channels=[16]))
default_hooks = dict(linear_baseline=dict(start=True))
"""
PROBE = """
_base_ = './fitted.py'
model = dict(backbone=dict(prompter=None))
train_cfg = dict(_delete_=True, type='lspt_mm.LinearProbeLoop', max_epochs=1)
param_scheduler = []
"""


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """probe/: a linear probe; rest/: two epochs from its fit, with a learning rate of 0."""

    def make(folder):
        write_classification(folder)
        (folder / 'fitted.py').write_text(FITTED)
        (folder / 'probe.py').write_text(PROBE)
        for name, more in (('probe', ()), ('fitted', (
            'optim_wrapper.optimizer.lr=0.', 'default_hooks.linear_baseline.soften=4'))):
            options = ('--cfg-options', *more) if more else ()
            run_ok('train.py', folder / f'{name}.py', '--work-dir', folder / name,
                           *options, cwd=folder)

    return once(tmp_path_factory, 'linear_start', make)


def literal_features(model, folder):
    """One image after the other, in the order of the folders."""
    pipeline = image_pipeline(model.cfg)
    paths = sorted((folder / 'images/train').glob('*/*'))
    labels = [sorted({p.parent.name for p in paths}).index(p.parent.name) for p in paths]
    rows = []
    for path in paths:
        batch = dict(inputs=[pipeline(str(path))['inputs']])
        images = model.data_preprocessor(batch, False)['inputs']
        rows.append(model.backbone(images, prompter=False)[-1][0].detach().double().numpy())
    return np.array(rows), np.array(labels)


def test_the_head_is_scikit_learns_solution(runs):
    model = init_model(runs / 'probe.py', runs / 'probe/epoch_1.pth', device='cpu')
    x, labels = literal_features(model, runs)
    baseline = json.loads((runs / 'probe/baseline.json').read_text())
    scaler = StandardScaler().fit(x)
    theirs = LogisticRegression(C=baseline['c'], max_iter=2000).fit(scaler.transform(x), labels)
    features = model.neck((torch.tensor(x, dtype=torch.float32),))
    logits = model.head(features) * baseline['temperature']
    ours = logits.softmax(1).detach().numpy()
    assert ours == pytest.approx(theirs.predict_proba(scaler.transform(x)), abs=1e-4)
    assert model.neck.feature_mean.numpy() == pytest.approx(scaler.mean_, abs=1e-5)


@pytest.mark.parametrize('value', [0.5, float('nan'), '5'])
def test_logits_are_not_sharpened(value):
    with pytest.raises(ValueError, match='soften'):
        LinearBaselineHook(soften=value)


def test_a_run_starts_from_the_fit(runs):
    states = [torch.load(runs / path, weights_only=False)['state_dict']
              for path in ('probe/epoch_1.pth', 'fitted/epoch_2.pth')]
    for name in ('head.fc.weight', 'head.fc.bias'):
        assert torch.equal(states[0][name] / 4, states[1][name])  # softened
    for name in ('neck.feature_mean', 'neck.feature_std'):
        assert torch.equal(states[0][name], states[1][name])
    log = next((runs / 'fitted').glob('*/*.log')).read_text()
    assert 'logistic regression on frozen features: top-1' in log and 'starts from it' in log


def test_a_probe_is_tested_resumed_and_exported(runs):
    run_ok('test.py', runs / 'probe.py', runs / 'probe/epoch_1.pth', '--work-dir',
                   runs / 'test', cwd=runs)
    (found,) = (runs / 'test').glob('*/*.json')
    value = json.loads((runs / 'probe/baseline.json').read_text())['value']
    assert json.loads(found.read_text())['accuracy/top1'] == pytest.approx(value, abs=1e-3)
    run_ok('train.py', runs / 'probe.py', '--work-dir', runs / 'probe', '--resume',
                   cwd=runs)
    model = init_model(runs / 'probe.py', runs / 'probe/epoch_1.pth', device='cpu')
    exported = Exportable(model)
    assert exported.model.neck.feature_std.eq(1).all() and model.neck.feature_std.ne(1).any()
    images = torch.randint(0, 256, (2, 3, 32, 32)).float()
    packed = dict(inputs=list(images.flip(1).to(torch.uint8)))
    theirs = model.head(model.extract_feat(model.data_preprocessor(packed, False)['inputs']))
    assert torch.allclose(exported(images), theirs, atol=1e-4)


def test_a_final_run_of_a_search_has_no_validation(runs):
    cfg = read_config(str(runs / 'probe.py'))
    cfg.test_dataloader = dict(cfg.val_dataloader, batch_size=2)
    cfg.test_dataloader['dataset'] = dict(cfg.val_dataloader.dataset, data_prefix='train')
    (runs / 'final').mkdir()
    final_config(cfg, seed=3).dump(runs / 'final/config.py')
    run_folder(runs / 'final')
    found = json.loads((runs / 'final/run/baseline.json').read_text())
    assert found['of'] == 'cross-validation'
    assert json.loads((runs / 'final/result.json').read_text())['accuracy'] > 50


@pytest.mark.parametrize('layer', [torch.nn.Linear(7, 5), torch.nn.Conv2d(7, 5, 1)])
def test_folding_changes_nothing(layer):
    torch.manual_seed(0)
    neck, layer = Standardize([4, 3]).double(), layer.double()
    neck.start_at(torch.randn(7) * 50, torch.rand(7) + 0.01)
    place = (6, 6) if layer.weight.dim() == 4 else ()
    features = [torch.randn(9, width, *place, dtype=torch.float64) * 50 for width in (4, 3)]

    def logits(features):
        return layer(torch.cat(features, 1))

    before = logits(neck(features))
    neck.fold(layer)
    for found in (logits(neck(features)), logits(features)):
        assert torch.allclose(found, before, rtol=1e-12, atol=1e-12)


def test_a_neck_that_others_read_is_not_folded():
    neck, layer = Standardize([4], dict(type='mmseg.MultiLevelNeck', in_channels=[4],
                                        out_channels=2)), torch.nn.Conv2d(4, 5, 1)
    neck.start_at(1.0, 3.0)
    before = layer.weight.clone()
    neck.fold(layer)
    assert torch.equal(layer.weight, before) and neck.feature_std.eq(3).all()


def test_widths_of_another_backbone_are_refused():
    neck = Standardize([4, 3])
    with pytest.raises(InputError, match=r'in_channels=\[4, 3\].*have \[4, 6\] channels'):
        neck((torch.zeros(1, 4, 2, 2), torch.zeros(1, 6, 2, 2)))
    with pytest.raises(InputError, match=r'in_channels=\[4, 3\].*have 10 channels'):
        neck.start_at(torch.zeros(10), torch.ones(10))


def test_features_are_computed_once(runs, tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path))
    model = init_model(runs / 'fitted.py', runs / 'fitted/epoch_2.pth', device='cpu')
    data, task = model.cfg.train_dataloader.dataset, task_of(model.cfg)
    first = frozen_features(data, model, task, batch_size=4)
    x, labels = literal_features(model, runs)
    assert first.x == pytest.approx(x, abs=1e-5) and (first.shares.argmax(1) == labels).all()

    def fail(*_, **__):
        raise AssertionError('computed again')

    monkeypatch.setattr(type(model.backbone), 'forward', fail)
    again = frozen_features(data, model, task, batch_size=1)
    assert np.array_equal(again.x, first.x) and isinstance(again.x, np.memmap)
    with torch.no_grad():
        model.backbone.layers[0].ffn.layers[1].bias += 1
    with pytest.raises(AssertionError, match='computed again'):
        frozen_features(data, model, task)


def test_copies_of_an_image_have_one_number(runs, tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path))
    model = init_model(runs / 'fitted.py', runs / 'fitted/epoch_2.pth', device='cpu')
    data, task = model.cfg.train_dataloader.dataset, task_of(model.cfg)
    one = frozen_features(data, model, task)
    assert sorted(one.files) == list(range(len(one.x)))
    twice = frozen_features(dict(type='RepeatDataset', times=2, dataset=data), model, task)
    assert np.array_equal(twice.files, np.tile(one.files, 2))


def test_layers_with_other_settings_have_other_features(runs, tmp_path, monkeypatch):
    """What no tensor shows: the epsilon of a norm, the number of heads."""
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path))
    model = init_model(runs / 'fitted.py', runs / 'fitted/epoch_2.pth', device='cpu')
    data, task = model.cfg.train_dataloader.dataset, task_of(model.cfg)
    found = [frozen_features(data, model, task).x]
    model.backbone.layers[0].ln1.eps = 1.0
    found.append(frozen_features(data, model, task).x)
    for layer in model.backbone.layers:
        layer.attn.num_heads, layer.attn.head_dims = 1, model.backbone.embed_dims
    found.append(frozen_features(data, model, task).x)
    assert not any(np.allclose(*pair, atol=1e-4) for pair in itertools.pairwise(found))



def test_a_fit_is_kept_for_the_same_problem(runs, tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path))
    model = init_model(runs / 'fitted.py', runs / 'fitted/epoch_2.pth', device='cpu')
    cfg, task = model.cfg, task_of(model.cfg)
    problem = cfg, model, task, cfg.val_dataloader.dataset
    first = LinearBaselineHook._fitted(*problem)
    monkeypatch.setattr(linear_baseline_hook, 'fit_linear', None)
    again = LinearBaselineHook._fitted(*problem)
    assert again.c == first.c and again.scores == first.scores
    assert np.array_equal(again.weight, first.weight) and np.array_equal(again.std, first.std)
    monkeypatch.setattr(type(task), 'class_weight', lambda *_: [2.0, *[1.0] * 15])
    with pytest.raises(TypeError):
        LinearBaselineHook._fitted(*problem)


def test_images_that_cannot_be_read(runs, tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path))
    shutil.copytree(runs / 'images', tmp_path / 'images')
    bad = sorted((tmp_path / 'images/train').glob('*/*'))[3]
    bad.write_bytes(bad.read_bytes()[:100])
    model = init_model(runs / 'fitted.py', runs / 'fitted/epoch_2.pth', device='cpu')
    data = dict(model.cfg.train_dataloader.dataset, data_root=str(tmp_path / 'images'))
    for workers in (0, 1):
        with pytest.raises(InputError, match=f'{bad.name}: cannot be read'):
            frozen_features(data, model, task_of(model.cfg), workers=workers)
    found = frozen_features(data, model, task_of(model.cfg), skip_bad=1)
    assert len(found.x) == len(literal_features(model, runs)[0]) - 1


def test_a_full_disk_costs_the_cache_only(runs, tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path))

    def full(*_):
        raise OSError('No space left on device')

    monkeypatch.setattr(np, 'save', full)
    model = init_model(runs / 'fitted.py', runs / 'fitted/epoch_2.pth', device='cpu')
    found = frozen_features(model.cfg.train_dataloader.dataset, model, task_of(model.cfg))
    assert found.x.shape == (len(found.shares), ARCH['embed_dims'])


def test_the_head_of_a_checkpoint_is_kept(runs):
    state = torch.load(runs / 'fitted/epoch_2.pth', weights_only=False)
    state['state_dict']['head.fc.weight'].fill_(0.5)
    torch.save(state, runs / 'halves.pth')
    run_ok('train.py', runs / 'fitted.py', '--work-dir', runs / 'halves', '--cfg-options',
                   'optim_wrapper.optimizer.lr=0.', f'load_from={runs / "halves.pth"}', cwd=runs)
    found = torch.load(runs / 'halves/epoch_2.pth', weights_only=False)['state_dict']
    assert found['head.fc.weight'].eq(0.5).all()
    torch.save({f'module.{k}': v for k, v in state['state_dict'].items()}, runs / 'plain.pth')
    run_ok('train.py', runs / 'fitted.py', '--work-dir', runs / 'plain', '--cfg-options',
           'optim_wrapper.optimizer.lr=0.', f'load_from={runs / "plain.pth"}', cwd=runs)
    found = torch.load(runs / 'plain/epoch_2.pth', weights_only=False)['state_dict']
    assert found['head.fc.weight'].eq(0.5).all()
    assert (runs / 'halves/baseline.json').is_file()


@pytest.mark.parametrize('head', [None, torch.ones(9, 16)])
def test_a_checkpoint_without_this_head_does_not_replace_the_fit(runs, head, tmp_path):
    state = torch.load(runs / 'fitted/epoch_2.pth', weights_only=False)['state_dict']
    want = state['head.fc.weight']
    kept = {name: value for name, value in state.items() if name.startswith('backbone')}
    if head is not None:  # of another number of classes
        kept = {**state, 'head.fc.weight': head, 'head.fc.bias': head[:, 0]}
    torch.save(dict(state_dict=kept), tmp_path / 'other.pth')
    run_ok('train.py', runs / 'fitted.py', '--work-dir', tmp_path / 'run', '--cfg-options',
           'optim_wrapper.optimizer.lr=0.', f'load_from={tmp_path / "other.pth"}',
           'default_hooks.linear_baseline.soften=4', cwd=runs)
    found = torch.load(tmp_path / 'run/epoch_2.pth', weights_only=False)['state_dict']
    assert torch.equal(found['head.fc.weight'], want)


def test_a_probe_that_was_stopped_before_its_validation_ended(runs, tmp_path):
    shutil.copytree(runs / 'probe', tmp_path / 'probe')
    (tmp_path / 'probe/validation.json').unlink()
    (tmp_path / 'probe/log.jsonl').write_text('')
    run_ok('train.py', runs / 'probe.py', '--work-dir', tmp_path / 'probe', '--resume', cwd=runs)
    assert (tmp_path / 'probe/validation.json').read_text() == (
        runs / 'probe/validation.json').read_text()


def test_the_config_of_a_finished_run_stays(runs, tmp_path):
    shutil.copytree(runs / 'fitted', tmp_path / 'run')
    before = (tmp_path / 'run/fitted.py').read_text()
    train = 'train.py', runs / 'fitted.py', '--work-dir', tmp_path / 'run'
    refused(run_tool(*train, '--resume', '--cfg-options', 'optim_wrapper.optimizer.lr=0.5',
                     cwd=runs), 'Resume with the settings of that run')
    refused(run_tool(*train, '--cfg-options', 'model.neck=None', cwd=runs), 'cannot start')
    run_ok('test.py', runs / 'fitted.py', tmp_path / 'run/epoch_2.pth', '--work-dir',
           tmp_path / 'run', '--cfg-options', 'log_level=DEBUG', cwd=runs)
    assert (tmp_path / 'run/fitted.py').read_text() == before
    for level in ('DEBUG', 'INFO'):  # a test's own folder has the config of the last test
        run_ok('test.py', runs / 'fitted.py', tmp_path / 'run/epoch_2.pth', '--work-dir',
               tmp_path / 'test', '--cfg-options', f'log_level={level}', cwd=runs)
        assert Config.fromfile(tmp_path / 'test/fitted.py').log_level == level


def test_validation_images_in_two_parts(runs, tmp_path):
    """A wrapper around data sets has no pipeline of its own."""
    (runs / 'parts.py').write_text(
        "_base_ = './fitted.py'\n"
        "val_dataloader = dict(dataset=dict(_delete_=True, type='ConcatDataset', datasets=2 * ["
        "{{_base_.val_dataloader.dataset}}]))\n"
    )
    run_ok('train.py', runs / 'parts.py', '--work-dir', tmp_path / 'run', cwd=runs)
    found, want = (json.loads((folder / 'baseline.json').read_text())
                   for folder in (tmp_path / 'run', runs / 'fitted'))
    assert found['value'] == pytest.approx(want['value'])  # each image twice


@pytest.mark.parametrize('out_type', ['featmap', 'raw'])
def test_outputs_that_are_no_vector(runs, out_type):
    model = init_model(runs / 'probe.py', runs / 'probe/epoch_1.pth', device='cpu')
    model.backbone.out_type = out_type
    with pytest.raises(InputError, match=f"out_type='{out_type}'.*needs a vector"):
        frozen_features(model.cfg.train_dataloader.dataset, model, task_of(model.cfg))


def test_a_baseline_that_looks_on_changes_no_run(runs):
    """A random head and dropout: random numbers come as without the hook."""
    for name, hooks in (('with', '{}'), ('without', 'dict(linear_baseline=None)')):
        (runs / f'{name}.py').write_text(
            "_base_ = './mini_cls.py'\nmodel = dict(backbone=dict(prompter=dict(dropout=0.3)))\n"
            f'default_hooks = {hooks}\n'
        )
        run_ok('train.py', runs / f'{name}.py', '--work-dir', runs / name, cwd=runs)
    states = [torch.load(runs / f'{name}/epoch_2.pth', weights_only=False)['state_dict']
              for name in ('with', 'without')]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert (runs / 'with/baseline.json').is_file() and not (runs / 'without/baseline.json').exists()


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ([70.0, 72.0, 71.0], ['72.00, is below']),
        ([74.0, 75.0, 80.0], ['still rising at the end (75.00, 80.00)']),
        ([74.0, 80.0, 75.0], []),
        ([60.0, 61.0, 62.0], ['62.00, is below', 'still rising']),
    ],
)
def test_remarks_at_the_end(values, words, tmp_path):
    (tmp_path / 'baseline.json').write_text(json.dumps({'metric': 'top', 'value': 73.0}))
    lines = [dict(mode='val', iter=i, top=value) for i, value in enumerate(values)]
    (tmp_path / 'log.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    found = remarks(tmp_path)
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


def test_an_evaluator_without_the_metric(tmp_path, monkeypatch):
    # Users choose their metrics, such as iou_metrics=['mDice'].
    monkeypatch.setattr(linear_baseline_hook, '_evaluate', lambda runner, model: {'mDice': 50.0})
    seen, fit = [], SimpleNamespace(scores={1.0: 40.0}, c=1.0)
    cfg = ConfigDict(val_dataloader=dict(dataset=dict(type='x')))
    runner = SimpleNamespace(
        val_loop=0, cfg=cfg, work_dir=str(tmp_path),
        logger=SimpleNamespace(warning=seen.append),
    )
    task = SimpleNamespace(dense=True, metric_key='mIoU', linear_model=lambda model, fit: None)
    LinearBaselineHook._report(runner, None, task, fit, 0.0, True)
    assert seen == ['no baseline: val_evaluator has no mIoU to compare with']
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match='computes mDice; a search compares mIoU'):
        Scores('mIoU').after_test_epoch(None, {'mDice': 50.0})


def test_a_head_that_cannot_start_so(runs):
    run = run_tool('train.py', runs / 'mini_cls.py', '--work-dir', runs / 'other', '--cfg-options',
                   'default_hooks.linear_baseline.start=True', cwd=runs)
    assert run.code == 2 and 'the head cannot start from a fit; expected neck=' in run.err


def test_a_head_of_several_layers_cannot_start_so():
    from mmpretrain.models.heads import StackedLinearClsHead

    model = SimpleNamespace(neck=Standardize([4]), head=StackedLinearClsHead(3, 4, [5]))
    assert not task_of(ConfigDict(default_scope='mmpretrain')).starts_from_fit(model)
