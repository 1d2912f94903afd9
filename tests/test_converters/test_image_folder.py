"""Folders of classes as people have them: what is read as meant, and what is refused by name."""

import json
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from lspt_mm.converters.image_folder import prepare_image_folder
from lspt_mm.errors import InputError


def photos(folder, count=3, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        random = np.random.default_rng([seed, i, *str(folder).encode()])
        Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).save(folder / f'{i}.png')


@pytest.fixture
def source(tmp_path):
    for split in ('train', 'test'):
        for name in 'ab':
            photos(tmp_path / f'in/{split}/{name}')
    return tmp_path / 'in'


def prepare(source, **options):
    return prepare_image_folder(source, source.parent / 'out', **options)


def about(source):
    return json.loads((source.parent / 'out/about.json').read_text())


@pytest.mark.parametrize('name', ['val', 'valid', 'Validation'])
def test_other_names_of_val(source, name):
    for label in 'ab':
        photos(source / f'{name}/{label}', 2)
    prepare(source)
    listed = json.loads((source.parent / 'out/val.json').read_text())
    assert len(listed) == 4 and all(path.startswith(f'{name}/') for path in listed)
    assert about(source)['val'] == 'official'


def test_other_names_of_train_and_test(source):
    (source / 'train').rename(source / 'training')
    (source / 'test').rename(source / 'testing')
    prepare(source)
    for split, folder in (('train', 'training'), ('val', 'training'), ('test', 'testing')):
        listed = json.loads((source.parent / f'out/{split}.json').read_text())
        assert listed and all(path.startswith(f'{folder}/') for path in listed)


def test_classes_that_become_others(source):
    prepare(source)
    for split in ('train', 'test'):
        photos(source / f'{split}/aa')
    with pytest.raises(InputError, match='was prepared before, with 2 classes'):
        prepare(source)
    prepare(source, overwrite=True)
    assert about(source)['classes'] == ['a', 'aa', 'b']


def test_a_copy_of_other_files_is_not_taken_for_them(source):
    prepare(source, copy=True)
    prepare(source, copy=True)
    photos(source / 'train/a', seed=1)
    with pytest.raises(InputError, match='train is a folder with other files'):
        prepare(source, copy=True)


def test_a_folder_inside_the_images(source):
    with pytest.raises(InputError, match='lies in a folder of images'):
        prepare_image_folder(source, source / 'train')
    assert sorted(p.name for p in (source / 'train').iterdir()) == ['a', 'b']


def test_what_is_left_out_or_absent_is_told(source):
    photos(source / 'train', 2)
    photos(source / 'train/c')
    said = prepare(source)
    assert 'train: 2 images in no folder of a class are left out' in said
    assert 'test: no image of c' in said


@pytest.fixture
def classes(tmp_path):
    """Folders of classes alone; one has the name of a split."""
    for name, count in (('a b', 10), ('c', 5), ('test', 1)):
        photos(tmp_path / f'in/{name}', count)
    return tmp_path / 'in'


def test_a_folder_beside_train_that_is_no_split(source):
    photos(source / 'holdout/a')
    assert 'left out, no folder of a split: holdout' in prepare(source)


def test_folders_of_classes_alone(classes):
    said = prepare(classes, val_share=0.2, test_share=0.2, seed=3)
    lists = {part: json.loads((classes.parent / f'out/{part}.json').read_text())
             for part in ('train', 'val', 'test')}
    names = ['a b', 'c', 'test']
    for part, counts in (('train', [6, 3, 1]), ('val', [2, 1, 0]), ('test', [2, 1, 0])):
        assert [list(lists[part].values()).count(label) for label in range(3)] == counts
        assert all(path.split('/')[:2] == ['images', names[label]]
                   for path, label in lists[part].items())
    assert len({path for found in lists.values() for path in found}) == 16
    assert about(classes)['images'] == {'train': 10, 'val': 3, 'test': 3}
    assert 'val is ours (seed 3); test is ours (seed 3)' in said and 'val: no image of test' in said
    prepare(classes, val_share=0.2, seed=3)
    assert not (classes.parent / 'out/test.json').exists()
    assert json.loads((classes.parent / 'out/val.json').read_text()) == lists['val']


def test_a_folder_around_them(classes):
    with pytest.raises(InputError, match='lies in a folder of images'):
        prepare_image_folder(classes, classes / 'run/data')
    photos(classes, 2)
    (classes / 'd').mkdir()
    with pytest.raises(InputError, match='in: no image in d'):
        prepare(classes)
    (classes / 'd').rmdir()
    assert 'in: 2 images in no folder of a class are left out' in prepare(classes)


def test_without_a_test(source):
    shutil.rmtree(source / 'test')
    assert 'test' not in prepare(source).replace(str(source.parent), '')
    assert about(source)['images'] == {'train': 4, 'val': 2}
    prepare(source, test_share=0.3)
    assert about(source)['images'] == {'train': 2, 'val': 2, 'test': 2}


def test_an_empty_val(source):
    (source / 'val/a').mkdir(parents=True)
    with pytest.raises(InputError, match='val: names no image'):
        prepare(source)


def test_one_class_is_none(tmp_path):
    for split in ('train', 'test'):
        photos(tmp_path / f'in/{split}/images/a')
    with pytest.raises(InputError, match='has one folder .images.; expected one for each'):
        prepare(tmp_path / 'in')


@pytest.mark.parametrize(
    'names', [('car', 'car '), [unicodedata.normalize(form, 'ü') for form in ('NFC', 'NFD')]]
)
def test_names_that_look_alike(source, names):
    for name in names:
        photos(source / 'train' / name)
    with pytest.raises(InputError, match='whose names look alike'):
        prepare(source)


@pytest.mark.parametrize('mode', ['F', 'I'])
def test_photos_of_32_bits(source, mode):
    Image.new(mode, (9, 9), 300).save(source / 'train/a/deep.tif')
    with pytest.raises(InputError, match='deep.tif'):
        prepare(source)


def test_two_folders_of_one_split(source):
    shutil.copytree(source / 'test', source / 'val')
    shutil.copytree(source / 'test', source / 'validation')
    with pytest.raises(InputError, match='val and validation are folders of val; move'):
        prepare(source)
