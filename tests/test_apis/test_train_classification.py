"""One call for images with labels: the run of its config, single-label and multi-label."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from miniatures import ARCH, run_ok, write_image_folder, write_vit
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

import lspt_mm
from lspt_mm.apis.predict import image_pipeline
from lspt_mm.converters.image_folder import prepare_image_folder
from lspt_mm.errors import InputError

#: More images in a batch than there are.
OPTIONS = {
    'arch': ARCH, 'patch_size': 8, 'img_size': 32, 'epochs': 2, 'num_tokens': 3, 'batch_size': 64,
    **{f'{split}_dataloader.{name}': value for split in ('train', 'val', 'test')
       for name, value in (('num_workers', 0), ('persistent_workers', False))},
}


def write_labels(folder):
    """ant, bee and cat by turns, every fourth image with two of them, every sixth without any."""
    names = sorted((folder / 'split').rglob('*.jpg'))
    rows = [['image', 'label']]
    for i, path in enumerate(names):
        labels = ['ant', 'bee', 'cat'][i % 3 :][: 1 + (i % 4 == 0)] if i % 6 else []
        rows.append([path.relative_to(folder / 'split').as_posix(), '|'.join(labels)])
    with open(folder / 'labels.csv', 'w', newline='') as file:
        csv.writer(file).writerows(rows)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('one_call')
    write_image_folder(folder / 'split', train=6, val=2)
    write_labels(folder)
    write_vit(folder / 'vit.pth')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the tools that are run here: sums are rounded alike
    yield folder
    torch.set_num_threads(threads)


def train(folder, out, images='split/train', **more):
    given = dict(backbone=str(folder / 'vit.pth'), method='vpt', options=OPTIONS, seed=3)
    return lspt_mm.train_classification(folder / images, folder / out, **{**given, **more})


@pytest.fixture(scope='module')
def trained(folder):
    return train(folder, 'run')


@pytest.fixture(scope='module')
def multi(folder):
    """Trained with a rate of 0: the head is the fit."""
    return train(folder, 'multi', 'split', labels=folder / 'labels.csv',
                 options={**OPTIONS, 'lr': 0.0})


def state_of(place):
    state = torch.load(next(Path(place).glob('epoch_*.pth')), weights_only=False)['state_dict']
    state.pop('backbone.base_record')  # JSON, whose keys may stand in another order
    return state


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in one.items())


def test_its_config_trains_the_same(folder, trained):
    run_ok('train.py', folder / 'run/transfer.py', '--work-dir', folder / 'again')
    assert equal(state_of(folder / 'run'), state_of(folder / 'again'))


@pytest.mark.slow
def test_the_config_path_and_the_command_train_the_same(folder, trained, tmp_path):
    run = run_ok('dataset_converters/prepare.py', 'imagefolder', '--from', folder / 'split/train',
                   '--to', tmp_path / 'data', '--val-share', 0.2, '--seed', 3)
    recipe = {name: value for name, value in OPTIONS.items() if '.' not in name}
    arguments = ','.join(f'{name}={value}'.replace(' ', '') for name, value in recipe.items())
    config = (f'imagefolder/transfer.py:task={tmp_path}/data,pretraining={folder}/vit.pth,'
              f'method=vpt,{arguments}')
    run = run_ok('train.py', config, '--work-dir', tmp_path / 'path', '--checkpoint', 'prompts',
                   '--seed', 3)
    options = [f'{name}={value}'.replace(' ', '') for name, value in OPTIONS.items()]
    run = run_ok('classify.py', '--images', folder / 'split/train', '--out', tmp_path / 'command',
                   '--seed', 3, '--method', 'vpt', '--backbone', folder / 'vit.pth', '--options',
                   *options)
    assert 'train 15, val 3 images of 3 classes' in run.out and 'lspt_mm predict' in run.out
    assert 'top-1' in run.out and '  ant  ' in run.out
    for other in ('path', 'command'):
        assert equal(state_of(folder / 'run'), state_of(tmp_path / other))


def test_metrics_are_those_of_the_validation(folder, trained, multi):
    for run, key, metric in ((trained, 'accuracy/top1', 'top-1'),
                             (multi, 'multi-label/f1-score', 'macro F1')):
        found = run.metrics
        assert (found['metric'], list(found['classes'])) == (metric, ['ant', 'bee', 'cat'])
        lines = map(json.loads, (run.folder / 'log.jsonl').read_text().splitlines())
        logged = [line for line in lines if line['mode'] == 'val'][-1]
        assert found['value'] == pytest.approx(logged[key], abs=0.01)
        baseline = json.loads((run.folder / 'baseline.json').read_text())
        assert (baseline['metric'], baseline['of']) == (key, 'validation')
        assert run.classes == ['ant', 'bee', 'cat']
    assert 'multi-label/mAP' in logged
    of_each = [value or 0 for value in multi.metrics['classes'].values()]
    assert multi.metrics['value'] == pytest.approx(np.mean(of_each))


def test_folders_of_splits_are_kept(folder, trained):
    about = json.loads((folder / 'run/data/about.json').read_text())
    assert about['images'] == {'train': 15, 'val': 3} and not about['multi_label']
    train(folder, 'kept', 'split', method='linear')
    about = json.loads((folder / 'kept/data/about.json').read_text())
    assert about['images'] == {'train': 18, 'val': 6} and about['val'] == 'official'


def test_a_multi_label_head_starts_from_scikit_learns_fit(folder, multi):
    probe = train(folder, 'probe', 'split', labels=folder / 'labels.csv', method='linear')
    ours = state_of(probe.folder)
    for name, value in state_of(multi.folder).items():
        if name.startswith('head'):  # softened, so that prompts have a loss to learn from
            torch.testing.assert_close(5 * value, ours[name], rtol=1e-6, atol=0)
        elif name.startswith('neck'):
            assert torch.equal(value, ours[name])
    assert probe.metrics['value'] == pytest.approx(
        json.loads((probe.folder / 'baseline.json').read_text())['value'], abs=1e-3
    )
    pairs = json.loads((multi.folder / 'data/train.json').read_text())
    assert [] in pairs.values() and any(len(labels) == 2 for labels in pairs.values())
    model, pipeline = probe.model, image_pipeline(probe.model.cfg)
    packed = dict(inputs=[pipeline(str(multi.folder / 'data' / name))['inputs'] for name in pairs])
    images = model.data_preprocessor(packed, False)['inputs']
    with torch.no_grad():
        x = model.backbone(images)[-1].double().numpy()
        logits = model.head(model.extract_feat(images))
    labels = np.array([[k in found for k in range(3)] for found in pairs.values()], int)
    z = StandardScaler().fit_transform(x)
    baseline = json.loads((probe.folder / 'baseline.json').read_text())
    theirs = LogisticRegression(C=baseline['c'], tol=1e-8, max_iter=5000)
    theirs = OneVsRestClassifier(theirs).fit(z, labels).predict_proba(z)
    ours = (logits * baseline['temperature']).sigmoid().numpy()
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_predictions_of_several_labels(folder, multi, tmp_path):
    results = multi.predict(folder / 'split/train')
    assert len(results) == 18
    for one in results:
        assert one.labels.tolist() == np.flatnonzero(one.scores >= 0.5).tolist()
        assert sorted(one.shares.values()) == pytest.approx(sorted(one.scores.tolist()))
        assert list(one.shares.values()) == sorted(one.shares.values(), reverse=True)
    run_ok('predict.py', folder / 'multi', folder / 'split/train', '--out', tmp_path)
    with open(tmp_path / 'predictions.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    for one in results:
        found = [row['class'] for row in rows if Path(row['image']).stem == one.name]
        assert found == ([name for name, share in one.shares.items() if share >= 0.5] or [''])


def test_a_test_is_that_of_the_validation_without_a_split_of_it(folder, multi, tmp_path):
    run_ok('test.py', folder / 'multi/transfer.py', multi.checkpoint, '--work-dir',
                   tmp_path, '--out', tmp_path / 'all.pkl')
    (found,) = tmp_path.glob('*/*.json')
    assert json.loads(found.read_text())['multi-label/f1-score'] == pytest.approx(
        multi.metrics['value'], abs=0.01
    )
    assert (tmp_path / 'all.pkl').is_file()


def test_export_of_several_labels(multi, tmp_path):
    pytest.importorskip('onnx')
    assert multi.export(tmp_path / 'multi.onnx', size=(32, 32), dynamic=False) < 1e-4


@pytest.mark.slow
def test_report_search_and_resume_of_several_labels(folder, multi, tmp_path):
    run = run_ok('report.py', folder / 'multi', '--out', tmp_path / 'report.html')
    page = (tmp_path / 'report.html').read_text()
    assert 'F1 of each class' in page and 'multi-label/f1-score' in page
    assert 'id="figure-confusion"' not in page
    before = state_of(multi.folder)
    again = train(folder, 'multi', 'split', labels=folder / 'labels.csv', resume=True,
                  options={**OPTIONS, 'lr': 0.0})
    assert again.metrics == multi.metrics and equal(before, state_of(multi.folder))
    run = run_ok('dataset_converters/prepare.py', 'imagefolder', '--from', folder / 'split',
                   '--labels', folder / 'labels.csv', '--to', tmp_path / 'data', '--test-share',
                   0.2, '--val-share', 0.2)
    recipe = {name: value for name, value in OPTIONS.items() if '.' not in name}
    arguments = ','.join(f'{name}={value}'.replace(' ', '') for name, value in recipe.items())
    run = run_ok('search.py', f'imagefolder/transfer.py:task={tmp_path}/data,method=vpt,'
                   f'pretraining={folder}/vit.pth,{arguments}', '--grid', 'lr=1e-3,1e-2', '--seeds',
                   1, '--work-dir', tmp_path / 'search')
    assert 'test macro F1' in run.out


class DataFrame:
    """As pandas', of which the message needs the name and this method alone."""

    to_csv = None


@pytest.mark.parametrize(('more', 'message'), [
    (dict(method='VPT'), "method='VPT': did you mean vpt"),
    (dict(backbone='absent.pth'), "backbone='absent.pth': no such file; expected timm:NAME"),
    (dict(backbone='mae'), "backbone='mae': pretrained/mae_pretrain_vit_base.pth does not exist"),
    (dict(images=None), 'images: NoneType, expected a path'),
    (dict(options={1: 2}), "options=.*: expected a dict"),
    (dict(labels=DataFrame()), r'labels: DataFrame, expected a path; save it by to_csv\(index=F'),
    (dict(out=__file__), f'out={__file__} cannot be written'),
    (dict(amp=1), 'amp=1: expected True or False'),
    (dict(options={'epoch': 3}), "no argument 'epoch'; did you mean epochs"),
    (dict(options={'task': 'x'}), 'task is an argument of its own'),
    (dict(options={'seed': 1}), 'seed is an argument of its own'),
    (dict(images='nowhere'), 'nowhere: no such folder'),
    (dict(labels='nowhere.csv'), '--labels nowhere.csv: no such file'),
    (dict(val_share=1.5), 'val_share=1.5: expected a number'),
    (dict(options={'img_size': 30}), 'img_size=30: expected a multiple of patch_size=8'),
])
def test_what_cannot_be_trained(folder, tmp_path, more, message):
    given = dict(images=folder / 'split/train', out=tmp_path / 'run',
                 backbone=str(folder / 'vit.pth'))
    given = {**given, **more, 'options': {'arch': ARCH, 'patch_size': 8, **more.get('options', {})}}
    with pytest.raises(InputError, match=message):
        lspt_mm.train_classification(**given)
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_a_run_inside_the_images_leaves_no_folder_there(folder):
    with pytest.raises(InputError, match='lies in the images .*: name a folder outside it'):
        train(folder, folder / 'split/train/run')
    assert not (folder / 'split/train/run').exists()


def test_a_run_is_not_resumed_on_other_images(folder, trained, tmp_path):
    for name in ('split/train', 'run'):
        shutil.copytree(folder / name, tmp_path / name, symlinks=True)
    with pytest.raises(InputError, match='has a run .*; resume=True'):
        train(folder, tmp_path / 'run', resume=False)
    with pytest.raises(InputError, match='such as images/ant/'):
        train(folder, tmp_path / 'run', resume=True, val_share=0.4)
    assert train(folder, tmp_path / 'run', resume=True).metrics == trained.metrics
    before = (tmp_path / 'run/data/val.json').read_text()
    next((tmp_path / 'split/train/ant').iterdir()).unlink()
    with pytest.raises(InputError, match='differ from those of the run, such as images/ant'):
        train(tmp_path, tmp_path / 'run', backbone=str(folder / 'vit.pth'), resume=True)
    assert (tmp_path / 'run/data/val.json').read_text() == before


def test_data_of_a_run_at_work_stay(folder, tmp_path):
    prepare_image_folder(folder / 'split/train', tmp_path / 'data', test_share=0.3)
    before = (tmp_path / 'data/test.json').read_text()
    with FileLock(tmp_path / '.lock'), pytest.raises(InputError, match='another run is at work'):
        train(folder, tmp_path, test_share=0.3, seed=7)
    assert (tmp_path / 'data/test.json').read_text() == before


@pytest.mark.parametrize('balance', ['weights', 'sampling'])
def test_balance_is_for_one_label_each(folder, tmp_path, balance):
    with pytest.raises(InputError, match=f'balance={balance}: .*data is multi-label'):
        train(folder, tmp_path / 'run', 'split', labels=folder / 'labels.csv',
              options={**OPTIONS, 'balance': balance})


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(dropout=0.1), 'method=lora has none'),
        (dict(epochs=40, warmup=50), 'warmup=50'),
    ],
)
def test_auto_checks_all_its_methods_first(folder, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        train(folder, tmp_path / 'auto', method='auto', options={**OPTIONS, **options})
    assert not (tmp_path / 'auto/auto').exists()
