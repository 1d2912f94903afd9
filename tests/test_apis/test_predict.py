"""tools/predict.py and lspt_mm.apis: pictures and tables from configs and checkpoints."""

import csv
import shutil

import numpy as np
import pytest
import torch
from miniatures import (
    once,
    run_tool,
    save_image,
    tiny_vit,
    write_classification,
    write_segmentation,
)
from PIL import Image

from lspt_mm.apis import init_inferencer
from lspt_mm.apis.predict import images_of, names_for
from lspt_mm.errors import InputError
from lspt_mm.utils.overlay import overlay


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Prompt-only checkpoints of both tasks."""

    def make(folder):
        for task, write in (('seg', write_segmentation), ('cls', write_classification)):
            (folder / task).mkdir()
            config = write(folder / task).config
            run = run_tool('train.py', config, '--work-dir', folder / task / 'run', '--checkpoint',
                           'prompts', cwd=folder)  # fmt: skip
            assert run.code == 0, run.err[-3000:]

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
    )  # fmt: skip


def test_masks_are_those_of_mmsegs_own_function(runs, photos):
    from mmseg.apis import inference_model, init_model

    run = predict(runs, 'seg', photos, photos)
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

    run = predict(runs, 'cls', photos, photos, '--top', 2)
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
    ],
)
def test_other_bad_arguments(runs, photos, change, said):
    arguments = [runs / 'seg/run/mini_seg.py', runs / 'seg/run/iter_4.pth', photos / 'a.jpg',
                 '--out', 'found']  # fmt: skip
    change(arguments)
    run = run_tool('predict.py', *arguments, cwd=photos.parent)
    assert run.code == 2 and said in run.err and 'Traceback' not in run.err
    assert '--work-dir' not in run.err  # an option of other tools


def test_a_checkpoint_of_another_config_is_refused(runs):
    with pytest.raises(InputError, match='epoch_2.pth'):
        init_inferencer(str(runs / 'seg/run/mini_seg.py'), str(runs / 'cls/run/epoch_2.pth'))


def test_another_vit_is_refused(runs, tmp_path):
    torch.save({'model': tiny_vit(seed=9).state_dict()}, tmp_path / 'other.pth')
    with pytest.raises(InputError, match='another ViT'):
        init_inferencer(str(runs / 'seg/run/mini_seg.py'), str(runs / 'seg/run/iter_4.pth'),
                      pretrained=str(tmp_path / 'other.pth'))  # fmt: skip


def test_names_of_outputs(tmp_path):
    paths = [tmp_path / name for name in ('a.jpg', 'b/a.png', 'b/c.png', 'd/a.png')]
    assert names_for(paths) == ['a.jpg', 'a.png', 'c', 'a.png_2']


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
    model = init_inferencer('mini_seg.py', 'iter_4.pth', device='cpu').model
    assert len(model.dataset_meta['classes']) == 150
