"""All that is wrong with the data is said at once, before the first iteration."""

import os

import numpy as np
import pytest
from miniatures import (
    run_ok,
    run_tool,
    save_image,
    save_label,
    write_ade20k,
    write_camvid,
    write_classification,
    write_image_folder,
    write_segmentation,
)
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from lspt_mm.datasets import verify as checking
from lspt_mm.datasets.seg_transforms import LoadSegLabels
from lspt_mm.datasets.verify import check_data, check_data_set
from lspt_mm.errors import InputError
from lspt_mm.utils.images import check_image


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path / 'cache'))


def ade(folder, **options):
    root = write_ade20k(folder / 'ADEChallengeData2016', training=10)
    init_default_scope('mmseg')
    dataset = {
        'type': 'ADE20KDataset', 'data_root': str(root),
        'data_prefix': {'img_path': 'images/training', 'seg_map_path': 'annotations/training'},
        'pipeline': [
            {'type': 'lspt_mm.LoadImage'}, {'type': 'lspt_mm.LoadSegLabels', 'num_classes': 150},
        ],
    }
    return root, Config({'train_dataloader': {'dataset': dataset}, **options})


def spoil(root):
    """One of each fault; the words by which each is to be told."""
    images, labels = root / 'images/training', root / 'annotations/training'
    whole = (images / 'training_0.jpg').read_bytes()
    (images / 'training_0.jpg').write_bytes(whole[: len(whole) * 3 // 4])
    (images / 'training_1.jpg').write_bytes(b'not an image')
    label = np.full((40, 48), 200, np.uint8)
    save_label(labels / 'training_2.png', label)
    save_label(labels / 'training_3.png', label[:20] * 0)
    (labels / 'training_4.png').unlink()
    (images / 'training_5.jpg').unlink()
    half = (labels / 'training_6.png').read_bytes()
    (labels / 'training_6.png').write_bytes(half[: len(half) // 2])
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(labels / 'training_7.png')
    return {
        'images/training/training_0.jpg': 'truncated', 'images/training/training_1.jpg': 'cannot',
        'annotations/training/training_2.png': 'value 200',
        'annotations/training/training_3.png': '48x20', 'training_4.png': 'does not exist',
        'annotations/training/training_5.png': 'a label without an image',
        'annotations/training/training_6.png': 'cannot be read',
        'annotations/training/training_7.png': 'mode RGB',
    }


def test_all_faults_at_once(tmp_path):
    root, cfg = ade(tmp_path)
    assert check_data(cfg, ('train_dataloader',)).errors == []
    faults = spoil(root)
    with pytest.raises(InputError) as error:
        check_data(cfg, ('train_dataloader',))
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f'{len(faults)} problems in the data') and '--no-check' in lines[0]
    for file, words in faults.items():
        (line,) = [line for line in lines[1:] if file in line]
        assert words in line
    assert len(lines) == len(faults) + 1


def test_as_many_as_may_be_skipped(tmp_path):
    root, cfg = ade(tmp_path, train_cfg={'skip_bad': 8})
    spoil(root)
    assert len(check_data(cfg, ('train_dataloader',)).errors) == 8


def test_remarks(tmp_path, capsys):
    root, cfg = ade(tmp_path)
    save_label(root / 'annotations/training/training_3.png', np.zeros((40, 48)))
    found = check_data(cfg, ('train_dataloader',))
    assert found.errors == [] and len(found.remarks) == 1
    assert 'training_3.png: all of the label is ignored' in capsys.readouterr().out


def test_labels_that_nothing_checks_are_a_remark(tmp_path):
    root, cfg = ade(tmp_path)
    assert check_data(cfg, ('train_dataloader',)).remarks == []
    cfg.train_dataloader.dataset.pipeline[1] = dict(type='LoadAnnotations')
    for _ in range(2):  # the second from the cache
        (remark,) = check_data(cfg, ('train_dataloader',)).remarks
        assert 'labels are not checked' in remark
    cfg.train_dataloader.dataset.pipeline[1] = dict(type=LoadSegLabels, num_classes=150)
    assert check_data(cfg, ('train_dataloader',)).remarks == []


def test_classes_and_numbers(tmp_path):
    save_image(tmp_path / 'a.jpg')
    data = [{'img_path': str(tmp_path / 'a.jpg'), 'gt_label': n} for n in (0, 2, 5, -1)]
    found = check_data_set(data, classes=4)
    assert found.errors == [f'{tmp_path / "a.jpg"}: label {n}, expected 0 to 3' for n in (5, -1)]
    assert found.remarks == ['2 of 4 classes have no image: 1, 3']


def test_unchanged_files_are_not_read_twice(tmp_path, monkeypatch):
    root, cfg = ade(tmp_path)
    save_label(root / 'annotations/training/training_3.png', np.zeros((40, 48)))
    first = check_data(cfg, ('train_dataloader',))
    read = []
    monkeypatch.setattr(
        checking, 'check_image', lambda path: read.append(path) or check_image(path)
    )
    assert check_data(cfg, ('train_dataloader',)) == first and read == []
    os.utime(root / 'images/training/training_0.jpg', (1, 1))
    check_data(cfg, ('train_dataloader',))
    assert len(read) == 10
    cfg.train_dataloader.dataset.pipeline[1].num_classes = 100
    with pytest.raises(InputError, match='none of the 100 classes'):
        check_data(cfg, ('train_dataloader',))
    for _ in range(2):  # what is wrong is said every time
        with pytest.raises(InputError):
            check_data(cfg, ('train_dataloader',))


def test_a_label_that_lost_its_image_after_a_check(tmp_path):
    root, cfg = ade(tmp_path)
    assert check_data(cfg, ('train_dataloader',)).errors == []
    save_label(root / 'annotations/training/stray.png', np.zeros((40, 48)))
    with pytest.raises(InputError, match='stray.png: a label without an image'):
        check_data(cfg, ('train_dataloader',))


def test_labels_of_images_that_a_split_holds_out(tmp_path):
    write_camvid(tmp_path, {'0001TP': 20})
    loader = dict(dataset=dict(type='lspt_mm.CamVidDataset', data_root=str(tmp_path),
                               split='training-fit', pipeline=[]))
    cfg = Config(dict(default_scope='mmseg', train_dataloader=loader))
    assert check_data(cfg, ('train_dataloader',)).errors == []
    save_label(tmp_path / 'annotations/training/0001TP_x.png', np.zeros((12, 16)))
    with pytest.raises(InputError, match='0001TP_x.png: a label without an image'):
        check_data(cfg, ('train_dataloader',))


def test_every_bad_file_is_named(tmp_path):
    root, cfg = ade(tmp_path)
    write_ade20k(root, training=60)
    for path in (root / 'images/training').iterdir():
        path.write_bytes(b'nothing')
    with pytest.raises(InputError) as error:
        check_data(cfg, ('train_dataloader',))
    for i in range(60):
        assert f'training_{i}.jpg: ' in str(error.value)


def test_a_damaged_cache_is_no_cache(tmp_path):
    _, cfg = ade(tmp_path)
    check_data(cfg, ('train_dataloader',))
    (file,) = (tmp_path / 'cache').rglob('*.json')
    for text in ('', '[]', '{"remarks": 3}', '\0'):
        file.write_text(text)
        assert check_data(cfg, ('train_dataloader',)).errors == []


@pytest.mark.parametrize('percent', range(1, 100, 7))
@pytest.mark.parametrize('suffix', ['jpg', 'png'])
def test_truncated_anywhere(tmp_path, suffix, percent):
    path = tmp_path / f'a.{suffix}'
    save_image(path, 96, 80)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * percent // 100])
    with pytest.raises(InputError, match=f'a.{suffix}: cannot be read as an image'):
        check_image(path)


# ---- through the tool -------------------------------------------------------------------------


def test_train_checks_unless_told_not_to(tmp_path):
    mini = write_segmentation(tmp_path)
    images = mini.data / 'images/training'
    (images / 'training_1.jpg').write_bytes(b'nothing')
    (images / 'training_3.jpg').write_bytes(b'nothing')
    common = ('train.py', mini.config, '--work-dir', tmp_path / 'work')
    run = run_tool(*common, cwd=tmp_path)
    assert run.code == 2 and 'training_1.jpg' in run.err and 'training_3.jpg' in run.err
    assert 'error: 2 problems in the data' in run.err and not list(tmp_path.glob('work/*.pth'))
    run = run_tool(*common, '--no-check', cwd=tmp_path)
    assert run.code == 2 and 'problems in the data' not in run.err  # found while training
    run = run_ok(*common, '--cfg-options', 'train_cfg.skip_bad=20', cwd=tmp_path)
    assert 'bad file 1 of at most 20 skipped' in run.out + run.err


def test_classification_too(tmp_path):
    mini = write_classification(tmp_path)
    write_image_folder(mini.data)
    bad = next((mini.data / 'val').rglob('*.jpg'))
    bad.write_bytes(bad.read_bytes()[:300])
    run = run_tool('train.py', mini.config, '--work-dir', tmp_path / 'work', cwd=tmp_path)
    assert run.code == 2 and str(bad) in run.err


def test_images_of_several_labels(tmp_path):
    samples = []
    for i, labels in enumerate(([0, 2], [], [2])):
        save_image(tmp_path / f'{i}.jpg')
        samples.append({'img_path': str(tmp_path / f'{i}.jpg'), 'gt_label': labels})
    found = check_data_set(samples, classes=4)
    assert found.errors == [] and found.remarks == ['2 of 4 classes have no image: 1, 3']
    samples[2]['gt_label'] = [2, 4]
    (error,) = check_data_set(samples, classes=4).errors
    assert error == f'{tmp_path}/2.jpg: label 4, expected 0 to 3'
