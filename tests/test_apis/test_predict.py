"""tools/predict.py and lspt_mm.apis: pictures and tables from configs and checkpoints."""

import csv
import os
import pickle
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from miniatures import (
    ROOT,
    once,
    run_command,
    run_ok,
    run_tool,
    save_image,
    tiny_vit,
    write_classification,
    write_segmentation,
)
from PIL import Image

from lspt_mm.apis import MultiTask, init_model, predict_image, predict_images
from lspt_mm.apis.predict import (
    autocast_to,
    image_pipeline,
    images_of,
    names_for,
    predict_samples,
)
from lspt_mm.errors import InputError
from lspt_mm.tasks import task_of
from lspt_mm.utils.overlay import overlay


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Prompt-only checkpoints of both tasks."""

    def make(folder):
        for task, write in (('seg', write_segmentation), ('cls', write_classification)):
            (folder / task).mkdir()
            config = write(folder / task).config
            run_ok('train.py', config, '--work-dir', folder / task / 'run', '--checkpoint',
                           'prompts', cwd=folder)

    return once(tmp_path_factory, 'predict', make)


@pytest.fixture
def photos(tmp_path):
    save_image(tmp_path / 'photos/a.jpg', 40, 52, seed=1)
    save_image(tmp_path / 'photos/b/c.png', 33, 60, seed=2)
    (tmp_path / 'photos/note.txt').write_text('no image, and not asked for')
    return tmp_path / 'photos'


def predict(runs, task, photos, *more):
    last = {'seg': 'iter_4.pth', 'cls': 'epoch_2.pth'}[task]
    return run_tool(
        'predict.py', runs / task / f'run/mini_{task}.py', runs / task / 'run' / last, *more,
        '--out', 'found', '--device', 'cpu', cwd=photos.parent,
    )


def test_masks_are_those_of_mmsegs_own_function(runs, photos):
    from mmseg.apis import inference_model, init_model

    run = predict(runs, 'seg', photos, photos, '--batch-size', 2, '--workers', 0)
    assert run.code == 0, run.err[-3000:]
    model = init_model(
        str(runs / 'seg/run/mini_seg.py'), str(runs / 'seg/run/iter_4.pth'), device='cpu'
    )
    # mmseg's function reads `test_pipeline`, its inferencer the test data set's, as a test does.
    model.cfg.test_pipeline = model.cfg.test_dataloader.dataset.pipeline
    palette = np.array(model.dataset_meta['palette'], np.uint8)
    for name, path in (('a', photos / 'a.jpg'), ('c', photos / 'b/c.png')):
        mask = Image.open(photos.parent / f'found/masks/{name}.png')
        theirs = inference_model(model, str(path)).pred_sem_seg.data[0].numpy()
        assert np.array_equal(np.array(mask), theirs)
        assert np.array_equal(np.array(mask.convert('RGB')), palette[theirs])
        assert (photos.parent / f'found/overlays/{name}.jpg').is_file()
    with open(photos.parent / 'found/predictions.csv', newline='') as file:
        rows = {row['image']: (row['mask'], row['overlay']) for row in csv.DictReader(file)}
    assert rows == {
        str(photos / 'a.jpg'): ('masks/a.png', 'overlays/a.jpg'),
        str(photos / 'b/c.png'): ('masks/c.png', 'overlays/c.jpg'),
    }


def test_classes_are_those_of_mmpretrains_own_inferencer(runs, photos):
    from mmengine.registry import init_default_scope
    from mmpretrain.apis import ImageClassificationInferencer

    run = predict(runs, 'cls', photos, photos, '--top', 2, '--batch-size', 1, '--workers', 1)
    assert run.code == 0, run.err[-3000:]
    with open(photos.parent / 'found/predictions.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    init_default_scope('mmpretrain')
    theirs = ImageClassificationInferencer(
        str(runs / 'cls/run/mini_cls.py'), str(runs / 'cls/run/epoch_2.pth'), device='cpu'
    )
    for path in (photos / 'a.jpg', photos / 'b/c.png'):
        mine = [row for row in rows if row['image'] == str(path)]
        (found,) = theirs(str(path))
        assert [row['rank'] for row in mine] == ['1', '2']
        assert mine[0]['class'] == found['pred_class'] and found['pred_class'] in run.out
        scores = np.sort(found['pred_scores'])[::-1][:2]
        assert np.allclose([float(row['probability']) for row in mine], scores, atol=1e-5)


@pytest.fixture
def model(runs):
    def load(task):
        run, last = runs / task / 'run', {'seg': 'iter_4.pth', 'cls': 'epoch_2.pth'}[task]
        return init_model(run / f'mini_{task}.py', run / last, device='cpu')

    return load


@pytest.mark.parametrize('task', ['seg', 'cls'])
@pytest.mark.parametrize('workers', [0, 2])
def test_batches_predict_what_images_predict_one_by_one(model, tmp_path, task, workers):
    sizes = [(40, 52), (33, 60), (40, 52), (40, 52), (33, 60), (70, 90), (40, 52)]
    paths = [tmp_path / f'{i}.png' for i in range(len(sizes))]
    for seed, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        save_image(path, *size, seed=seed)
    found, net = [], model(task)
    step, batches = net.test_step, []
    net.test_step = lambda data: batches.append(len(data['inputs'])) or step(data)
    for sample in predict_samples(net, paths, 4, workers):
        found.append(task_of(net.cfg).prediction(sample))
    # Of the first four images, those of one size together, where the pipeline keeps sizes.
    assert batches == {'seg': [3, 1, 1, 1, 1], 'cls': [4, 3]}[task]
    pipeline = pickle.loads(pickle.dumps(image_pipeline(net.cfg)))  # as workers may get it
    for path, (labels, scores) in zip(paths, found, strict=True):
        want = predict_image(net, pipeline(path))
        assert np.array_equal(labels, want.labels)
        if task == 'cls':
            np.testing.assert_allclose(scores, want.scores, rtol=1e-5)


@pytest.mark.parametrize('workers', [0, 1])
@pytest.mark.parametrize(('name', 'said'), [('cut.png', 'cannot be read'), ('low.png', 'too few')])
def test_an_image_that_fails_is_named(model, tmp_path, workers, name, said):
    paths = [tmp_path / f'{i}.png' for i in range(3)]
    for path in paths:
        save_image(path, 40, 52)
    save_image(tmp_path / 'low.png', 3, 2000)
    (tmp_path / 'cut.png').write_bytes(paths[0].read_bytes()[:99])
    with pytest.raises(InputError, match=f'^{tmp_path}/{name}: .*{said}'):
        predict_images(model('seg'), [*paths, tmp_path / name], tmp_path / 'found',
                       batch_size=2, workers=workers)
    assert {p.name for p in (tmp_path / 'found/masks').iterdir()} == {'0.png', '1.png'}
    rows = (tmp_path / 'found/predictions.csv').read_text().splitlines()[1:]
    assert [row.split(',')[0] for row in rows] == [str(path) for path in paths[:2]]


def test_names_that_are_no_utf8(model, tmp_path):
    path = Path(os.fsdecode(bytes(tmp_path / 'caf') + b'\xe9.png'))
    save_image(path, 40, 52)
    predict_images(model('cls'), [path], tmp_path / 'found')
    assert os.fsencode(path) in (tmp_path / 'found/predictions.csv').read_bytes()


def test_results_that_cannot_be_written(model, tmp_path):
    save_image(tmp_path / 'a.png', 40, 52)
    found = tmp_path / 'found'
    (found / 'overlays/a.jpg').mkdir(parents=True)  # in the way
    (found / 'predictions.csv').touch()
    with pytest.raises(InputError, match=f'^{found}: a cannot be written: .*Is a directory'):
        predict_images(model('seg'), [tmp_path / 'a.png'], found)


def test_masks_of_others_are_not_overwritten(model, tmp_path):
    save_image(tmp_path / 'my/images/a.png', 40, 52)
    save_image(tmp_path / 'my/masks/a.png', 40, 52)
    before = (tmp_path / 'my/masks/a.png').read_bytes()
    with pytest.raises(InputError, match='has masks/, but no predictions.csv'):
        predict_images(model('seg'), [tmp_path / 'my/images/a.png'], tmp_path / 'my')
    assert (tmp_path / 'my/masks/a.png').read_bytes() == before


@pytest.mark.parametrize('inside', ['.', 'b', 'found'])
def test_predicting_twice_predicts_the_same_images(model, photos, inside):
    out, net = photos / inside, model('seg')
    first = predict_images(net, photos, out)
    written = {path: path.read_bytes() for path in sorted(out.rglob('*/*'))}
    assert predict_images(net, photos, out) == first and len(first) == 2
    assert predict_images(net, str(photos / '**/*.[jp][pn]g'), out) == first
    assert {path: path.read_bytes() for path in sorted(out.rglob('*/*'))} == written
    assert images_of([photos], out) == [photos / 'a.jpg', photos / 'b/c.png']
    assert images_of(out / 'masks/a.png', out) == [out / 'masks/a.png']  # asked for by name


def test_an_image_of_too_few_pixels_is_named_where_it_has_a_name(model, tmp_path):
    save_image(tmp_path / 'low.png', 3, 40)
    net = model('seg')
    pipeline = image_pipeline(net.cfg)
    with pytest.raises(InputError, match=f'^{tmp_path}/low.png: 40 x 3 pixels, '):
        predict_image(net, pipeline(tmp_path / 'low.png'))
    with pytest.raises(InputError, match='^40 x 3 pixels, '):
        predict_image(net, pipeline(np.zeros((3, 40, 3), np.uint8)))


def test_half_precision(model, photos):
    net, paths = model('cls'), [photos / 'a.jpg', photos / 'b/c.png']
    task = task_of(net.cfg)
    kinds = ('float32', 'bfloat16', 'float32')
    one, half, again = (
        np.stack([task.prediction(s).scores for s in predict_samples(net, paths, 2, 0, kind)])
        for kind in kinds
    )
    # bfloat16 has 8 bits: a share of 2^-8 of the logits, here of less than 10.
    assert 0 < np.abs(half - one).max() < 10 / 2**8
    assert np.array_equal(again, one)  # nothing of bfloat16 stays in the model


@pytest.mark.parametrize(
    ('options', 'error', 'said'),
    [
        (dict(dtype='half'), ValueError, "dtype='half': expected one of 'float32', 'float16'"),
        (dict(dtype='float16'), InputError, 'float16 on cpu: .* expected bfloat16 or float32'),
        (dict(batch_size=0), ValueError, 'batch_size=0'),
        (dict(workers=-1), ValueError, 'workers=-1'),
        (dict(top=0), ValueError, 'top=0: expected an integer of at least 1'),
        (dict(top=-1), ValueError, 'top=-1'),
        (dict(top=1.5), ValueError, r'top=1\.5'),
    ],
    ids=str,
)
def test_wrong_options_write_nothing(model, photos, tmp_path, options, error, said):
    with pytest.raises(error, match=said):
        predict_images(model('seg'), [photos / 'a.jpg'], tmp_path / 'found', **options)
    assert not (tmp_path / 'found').exists()


@pytest.mark.parametrize('one_dnn', [True, False])
def test_bfloat16_of_a_cpu_without_it(one_dnn, monkeypatch):
    """Without oneDNN, as on Apple silicon, PyTorch has no operator that could be asked."""
    if one_dnn:
        monkeypatch.setattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', lambda: False)
    else:
        monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
        monkeypatch.setattr(torch.ops, 'mkldnn', None)
    with pytest.raises(InputError, match='bfloat16 on cpu: .* expected float32'):
        autocast_to('bfloat16', torch.device('cpu'))


def test_bfloat16_of_a_gpu_that_emulates_it(monkeypatch):
    monkeypatch.setattr(
        torch.cuda, 'is_bf16_supported', lambda including_emulation=True: including_emulation
    )
    with pytest.raises(InputError, match='bfloat16 on cuda: .* expected float16 or float32'):
        autocast_to('bfloat16', torch.device('cuda'))


def test_bad_inputs_are_told_at_once(runs, photos):
    (photos / 'text.png').write_text('no image')
    (photos / 'cut.jpg').write_bytes((photos / 'a.jpg').read_bytes()[:500])
    run = predict(runs, 'seg', photos, photos, 'gone.jpg')
    assert run.code == 2 and 'Traceback' not in run.err
    for told in ('3 inputs', 'text.png: cannot be read', 'cut.jpg', 'gone.jpg: does not exist'):
        assert told in run.err
    assert not (photos.parent / 'found').exists()


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda a: a.__setitem__(1, 'gone.pth'), 'gone.pth: no such checkpoint file'),
        (lambda a: a.__setitem__(0, 'gone.py'), 'config file gone.py does not exist'),
        (lambda a: a.extend(['--device', 'cuda:77']), 'device cuda:77: cannot be used'),
        (lambda a: a.extend(['--pretrained', 'gone.pth']), '--pretrained gone.pth: no such file'),
        (lambda a: a.__setitem__(4, 'photos/a.jpg/in'), '--out photos/a.jpg/in cannot be written'),
        (lambda a: a.__setitem__(slice(0, 2), ['runs/typo']), 'runs/typo is no folder'),
    ],
)
def test_other_bad_arguments(runs, photos, change, said):
    arguments = [runs / 'seg/run/mini_seg.py', runs / 'seg/run/iter_4.pth', photos / 'a.jpg',
                 '--out', 'found']
    change(arguments)
    run = run_tool('predict.py', *arguments, cwd=photos.parent)
    assert run.code == 2 and said in run.err and 'Traceback' not in run.err
    assert '--work-dir' not in run.err  # an option of other tools


def test_a_runs_folder_is_its_config_and_its_last_checkpoint(runs, photos):
    run, photo = runs / 'cls/run', photos / 'a.jpg'
    config, checkpoint = run / 'mini_cls.py', run / 'epoch_2.pth'
    want = init_model(config, checkpoint, device='cpu').state_dict()
    for given in ([run], [run, 'epoch_2.pth']):
        found = init_model(*given, device='cpu').state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in want.items())
    scores = [found.scores for found in MultiTask({'a': run, 'b': (config, checkpoint)})(
        photo).values()]
    assert np.array_equal(*scores)
    with pytest.raises(InputError, match="mini_cls.py: expected a checkpoint .* or a run's folder"):
        init_model(config)


def test_the_device_is_a_gpu_if_there_is_one(runs, monkeypatch):
    def chosen(device):
        raise InputError(f'asked for {device}')

    monkeypatch.setattr('lspt_mm.apis.model.check_device', chosen)
    with pytest.raises(InputError, match='asked for None'):  # which is a GPU, if there is one
        init_model(runs / 'cls/run')


def test_no_warnings_of_the_stacks_defaults(runs):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter('always')
        init_model(runs / 'seg/run', device='cpu')
    assert not [one for one in found if 'avg_non_ignore' in str(one.message)]


def test_a_checkpoint_of_another_config_is_refused(runs):
    with pytest.raises(InputError, match='epoch_2.pth'):
        init_model(str(runs / 'seg/run/mini_seg.py'), str(runs / 'cls/run/epoch_2.pth'))


def test_another_vit_is_refused(runs, tmp_path):
    torch.save({'model': tiny_vit(seed=9).state_dict()}, tmp_path / 'other.pth')
    with pytest.raises(InputError, match='another ViT'):
        init_model(str(runs / 'seg/run/mini_seg.py'), str(runs / 'seg/run/iter_4.pth'),
                   pretrained=str(tmp_path / 'other.pth'))


def test_names_of_outputs(tmp_path):
    paths = [tmp_path / name for name in ('a.jpg', 'b/a.png', 'b/c.png', 'd/a.png', 'a.png_2.jpg')]
    assert names_for(paths) == ['a.jpg', 'a.png', 'c', 'a.png_2', 'a.png_2_2']


def test_a_folder_without_images(tmp_path):
    with pytest.raises(InputError, match='no image in it'):
        images_of([tmp_path])


def test_overlay(tmp_path):
    image = np.full((480, 640, 3), 100, np.uint8)
    mask = np.zeros((480, 640), np.uint8)
    mask[:, 200:] = 1
    mask[:, 300:] = 255
    drawn = np.array(overlay(image, mask, ['left', 'right'], [[200, 0, 0], [0, 200, 0]]))
    assert drawn.shape[0] == 480 and drawn.shape[1] > 640
    # 40 parts of the image and 60 of the colour; ignored pixels are black.
    assert drawn[10, 10].tolist() == [160, 40, 40] and drawn[10, 210].tolist() == [40, 160, 40]
    assert drawn[10, 350].tolist() == [40, 40, 40]
    assert drawn[10, 200].tolist() == [16, 64, 16]  # the line: 40 % of it
    swatches = drawn[:, 640:].reshape(-1, 3).tolist()
    assert [200, 0, 0] in swatches and [0, 200, 0] in swatches
    with pytest.raises(ValueError, match='one size'):
        overlay(image, mask[1:], ['left', 'right'], [[200, 0, 0], [0, 200, 0]])


def test_it_works_where_the_vit_is_found_by_its_record(runs, tmp_path, monkeypatch):
    """In another folder, with the config that the run left."""
    shutil.copy(runs / 'seg/run/mini_seg.py', tmp_path)
    shutil.copy(runs / 'seg/run/iter_4.pth', tmp_path)
    monkeypatch.chdir(tmp_path)
    model = init_model('mini_seg.py', 'iter_4.pth', device='cpu')
    assert len(model.dataset_meta['classes']) == 150


@pytest.mark.slow
def test_speed_has_a_row_for_every_setting(runs, photos):
    run = run_command(
        sys.executable, '-m', 'lspt_mm', 'predict_speed', runs / 'seg/run', photos, '--count', 3,
        '--rounds', 1, '--size', 60, 40, '--batch-size', 1, 2, '--workers', 0, 1, '--dtype',
        'float32', 'bfloat16', '--device', 'cpu', cwd=photos.parent, PYTHONPATH=str(ROOT),
    )
    assert run.code == 0, run.err[-3000:]
    rows = [line.split(' | ')[0] for line in run.out.splitlines() if line.startswith('| ')][1:]
    kinds = [f', batch {n}, ' for n in (1, 2)]
    assert sorted(rows) == sorted([
        '| one by one',
        *(f'| forward{k}{d}' for k in kinds for d in ('float32', 'bfloat16')),
        *(f'| predict{k}{w} workers, {d}' for k in kinds for w in (0, 1)
          for d in ('float32', 'bfloat16')),
    ])
    share = float(run.out.split('bfloat16: ')[1].split(' %')[0])
    assert 0 <= share < 100
