"""Preparing data sets: official layouts in miniature, and each way in which one can be wrong."""

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from miniatures import run_ok, run_tool, save_image
from scipy.io import savemat

from lspt_mm.config.benchmarks import FGVC_TASKS, VTAB_TASKS, FGVCTask, VTABTask
from lspt_mm.converters import prepare_fgvc, prepare_image_folder, prepare_vtab
from lspt_mm.converters.archives import link_or_copy
from lspt_mm.converters.splits import random_share, random_tenth, write_lists
from lspt_mm.datasets import FGVC, VTAB1K, ListedImages, benchmarks
from lspt_mm.errors import InputError

#: Python 3.10.12 and 3.11.4 brought the filter; Debian 12 has 3.11.2.
extracts = pytest.mark.skipif(
    not hasattr(tarfile, 'data_filter'), reason='this Python cannot extract archives safely'
)


def image(path):
    save_image(path, 4, 4, seed=len(path.name))


def lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{row}\n' for row in rows))


def pack(folder, archive, *names):
    """``names`` of ``folder`` into one archive, as the official ones are packed."""
    with tarfile.open(folder / archive, 'w:gz' if archive.endswith('gz') else 'w') as tar:
        for name in names:
            tar.add(folder / name, name)
    for name in names:
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def read(path):
    return json.loads(path.read_text())


def lists_of(dest):
    return {split: read(dest / f'{split}.json') for split in ('train', 'val', 'test')}


# ---- miniatures in the official layouts -------------------------------------------------------


def write_birds(folder, numbers, titles):
    """Text files of CUB and NABirds: for each class 4 training images and 2 test images."""
    rows = {'images': [], 'image_class_labels': [], 'train_test_split': []}
    for number in numbers:
        for i in range(6):
            key = f'{number}-{i}'
            image(folder / 'images' / f'{number:03d}' / f'{i}.jpg')
            rows['images'].append(f'{key} {number:03d}/{i}.jpg')
            rows['image_class_labels'].append(f'{key} {number}')
            rows['train_test_split'].append(f'{key} {int(i < 4)}')
    for name, values in rows.items():
        lines(folder / f'{name}.txt', values)
    lines(folder / 'classes.txt', [f'{n} {title}' for n, title in titles.items()])


def write_cub(source):
    write_birds(source / 'CUB_200_2011', (1, 2, 3), {1: '001.Ant', 2: '002.Bee', 3: '003.Cat'})


def write_nabirds(source):
    titles = {0: 'Birds', 7: 'Oak Tit', 90: 'Teal (male)', 100: 'Unseen', 817: 'Wren'}
    write_birds(source / 'nabirds', (90, 7, 817), titles)


def write_flowers(source):
    for i in range(1, 10):
        image(source / 'jpg' / f'image_{i:05d}.jpg')
    savemat(source / 'imagelabels.mat', {'labels': np.uint8([[1, 2, 3] * 3])})
    ids = {'trnid': [9, 1, 2], 'valid': [4, 5], 'tstid': [3, 6, 7, 8]}
    savemat(source / 'setid.mat', {key: np.uint16([value]) for key, value in ids.items()})


def cells(values, column=False):
    array = np.empty(len(values), object)
    array[:] = values
    return array[:, None] if column else array[None]


def write_dogs(source):
    for split, per_class in (('train', range(4)), ('test', range(4, 6))):
        dogs = ((1, 'Pug'), (2, 'Wire-haired'))
        names = [f'n0{c}-{dog}/n0{c}_{i}.jpg' for c, dog in dogs for i in per_class]
        for name in names:
            image(source / 'Images' / name)
        labels = np.float64([[1 + (name[2] == '2')] for name in names])
        savemat(
            source / f'{split}_list.mat', {'file_list': cells(names, column=True), 'labels': labels}
        )


def records(**fields):
    array = np.empty((1, len(next(iter(fields.values())))), [(name, object) for name in fields])
    for name, values in fields.items():
        array[name][0] = values
    return array


def write_cars(source):
    names = [f'car_ims/{i:06d}.jpg' for i in range(1, 9)]
    for name in names:
        image(source / name)
    annotations = records(
        relative_im_path=names, bbox_x1=[1] * 8, **{'class': [1, 2] * 4}, test=[0] * 5 + [1] * 3
    )
    classes = cells(['Audi A4', 'BMW M3'])
    savemat(source / 'cars_annos.mat', {'annotations': annotations, 'class_names': classes})


def write_cars_in_two(source):
    (source / 'devkit').mkdir(parents=True)
    labels = {'train': [1, 2, 1, 2], 'test': [2, 1]}
    files = {'train': 'devkit/cars_train_annos.mat', 'test': 'cars_test_annos_withlabels.mat'}
    for split, values in labels.items():
        names = [f'{i + 1:05d}.jpg' for i in range(len(values))]
        for name in names:
            image(source / f'cars_{split}' / name)
        savemat(source / files[split], {'annotations': records(fname=names, **{'class': values})})
    savemat(source / 'devkit/cars_meta.mat', {'class_names': cells(['Audi A4', 'BMW M3'])})


BIRDS = 'CUB_200_2011/images'
#: Name: what writes it, its archives, its facts, its official training images, its test.
MINIATURES = {
    'cub': (
        write_cub,
        {'CUB_200_2011.tgz': ['CUB_200_2011']},
        FGVCTask(3, 10, 2, 6, 'CUB'),
        {f'{BIRDS}/00{c + 1}/{i}.jpg': c for c in range(3) for i in range(4)},
        {f'{BIRDS}/00{c + 1}/{i}.jpg': c for c in range(3) for i in (4, 5)},
        ['001.Ant', '002.Bee', '003.Cat'],
    ),
    'nabirds': (
        write_nabirds,
        {'nabirds.tar.gz': ['nabirds']},
        FGVCTask(3, 10, 2, 6, 'NABirds'),
        {
            f'nabirds/images/{number}/{i}.jpg': label
            for number, label in (('090', 1), ('007', 0), ('817', 2)) for i in range(4)
        },
        {
            f'nabirds/images/{number}/{i}.jpg': label
            for number, label in (('090', 1), ('007', 0), ('817', 2)) for i in (4, 5)
        },
        ['Oak Tit', 'Teal (male)', 'Wren'],
    ),
    'flowers': (
        write_flowers,
        {'102flowers.tgz': ['jpg']},
        FGVCTask(3, 3, 2, 4, 'Flowers'),
        {'jpg/image_00009.jpg': 2, 'jpg/image_00001.jpg': 0, 'jpg/image_00002.jpg': 1},
        {f'jpg/image_0000{i}.jpg': (i - 1) % 3 for i in (3, 6, 7, 8)},
        ['1', '2', '3'],
    ),
    'dogs': (
        write_dogs,
        {'images.tar': ['Images'], 'lists.tar': ['train_list.mat', 'test_list.mat']},
        FGVCTask(2, 7, 1, 4, 'Dogs'),
        {
            f'Images/n0{c}-{dog}/n0{c}_{i}.jpg': c - 1
            for c, dog in ((1, 'Pug'), (2, 'Wire-haired')) for i in range(4)
        },
        {
            f'Images/n0{c}-{dog}/n0{c}_{i}.jpg': c - 1
            for c, dog in ((1, 'Pug'), (2, 'Wire-haired')) for i in (4, 5)
        },
        ['Pug', 'Wire-haired'],
    ),
    'cars': (
        write_cars,
        {'car_ims.tgz': ['car_ims']},
        FGVCTask(2, 4, 1, 3, 'Cars'),
        {f'car_ims/00000{i}.jpg': (i - 1) % 2 for i in range(1, 6)},
        {f'car_ims/00000{i}.jpg': (i - 1) % 2 for i in range(6, 9)},
        ['Audi A4', 'BMW M3'],
    ),
    'cars in two': (
        write_cars_in_two,
        {
            'cars_train.tgz': ['cars_train'],
            'cars_test.tgz': ['cars_test'],
            'car_devkit.tgz': ['devkit'],
        },
        FGVCTask(2, 3, 1, 2, 'Cars'),
        {f'cars_train/0000{i}.jpg': (i - 1) % 2 for i in range(1, 5)},
        {'cars_test/00001.jpg': 1, 'cars_test/00002.jpg': 0},
        ['Audi A4', 'BMW M3'],
    ),
}


@pytest.fixture(autouse=True)
def small_tables(monkeypatch):
    for name in ('cub', 'nabirds', 'flowers', 'dogs', 'cars'):
        monkeypatch.setitem(FGVC_TASKS, name, MINIATURES[name][2])


@pytest.fixture
def cub(tmp_path):
    """Folder with CUB's extracted folder."""
    write_cub(tmp_path / 'source')
    return tmp_path / 'source'


def prepare_cub(source, dest=None, **kwargs):
    dest = dest or source.parent / 'fgvc' / 'cub'
    prepare_fgvc('cub', source, dest, **kwargs)
    return lists_of(dest)


def assert_refused(source, *parts, name='cub', **kwargs):
    """Preparing ends in one message with all ``parts``, and leaves no list."""
    dest = source.parent / 'fgvc' / name
    with pytest.raises(InputError) as error:
        prepare_fgvc(name, source, dest, **kwargs)
    for part in parts:
        assert part in str(error.value)
    assert not list(dest.glob('*.json')) and not list(dest.glob('.*'))
    return str(error.value)


@pytest.mark.parametrize(
    'form', [pytest.param('archives', marks=extracts), 'folders', 'copies']
)
@pytest.mark.parametrize('key', MINIATURES)
def test_each_data_set(key, form, tmp_path, monkeypatch):
    write, archives, facts, train, test, classes = MINIATURES[key]
    name = key.split()[0]
    monkeypatch.setitem(FGVC_TASKS, name, facts)
    source, dest = tmp_path / 'source', tmp_path / 'fgvc' / name
    write(source)
    if form == 'archives':
        for archive, names in archives.items():
            pack(source, archive, *names)
    told = prepare_fgvc(name, source, dest, copy=form == 'copies')
    found = lists_of(dest)
    assert found['test'] == test
    val = 'official' if name == 'flowers' else 'ours (seed 0)'
    if name == 'flowers':
        assert found['train'] == train
        assert found['val'] == {'jpg/image_00004.jpg': 0, 'jpg/image_00005.jpg': 1}
    else:
        assert {**found['train'], **found['val']} == train
        assert len(found['train']) + len(found['val']) == len(train)
    assert read(dest / 'about.json') == {
        'name': facts.title, 'classes': classes, 'val': val, 'official_counts': True,
    }
    for split in ('train', 'val', 'test'):
        data = FGVC(name, split, data_root=str(dest.parent), serialize_data=False)
        assert f'{split} {len(data)}' in told
    links = [path for path in dest.iterdir() if path.is_symlink()]
    assert bool(links) == (form == 'folders')
    assert not list(dest.glob('.*'))


@pytest.mark.parametrize('place', ['CUB_200_2011', '.'])
def test_other_places_of_the_extracted_folder(cub, place):
    """The folder itself, and a folder of the same name around it."""
    source = cub / place
    if place == '.':
        (cub / 'CUB_200_2011').rename(cub / 'inner')
        (cub / 'CUB_200_2011').mkdir()
        (cub / 'inner').rename(cub / 'CUB_200_2011' / 'CUB_200_2011')
    assert len(prepare_cub(source, cub.parent / 'dest')['test']) == 6


@extracts
def test_a_folder_named_as_what_its_archive_has(cub):
    pack(cub, 'CUB_200_2011.tgz', 'CUB_200_2011')
    cub = cub.rename(cub.parent / 'CUB_200_2011')
    assert len(prepare_cub(cub)['test']) == 6


def test_preparing_in_place_and_again(cub):
    first = prepare_cub(cub, dest=cub)
    assert prepare_cub(cub, dest=cub) == first
    assert not (cub / 'CUB_200_2011').is_symlink()


def test_in_place_nothing_is_said_to_be_made_anew(cub):
    (cub / BIRDS / '001' / '0.jpg').unlink()
    with pytest.raises(InputError) as error:
        prepare_cub(cub, dest=cub)
    assert 'existed before' not in str(error.value)


def test_a_link_to_another_folder_stays(cub):
    first = prepare_cub(cub)
    other = cub.parent / 'other'
    shutil.copytree(cub, other)
    with pytest.raises(InputError, match='leads to .*source.*, not .*other.*--to'):
        prepare_cub(other)
    assert lists_of(cub.parent / 'fgvc' / 'cub') == first


def test_what_stays_from_a_former_run_is_told(cub):
    prepare_cub(cub, copy=True)
    dest = cub.parent / 'fgvc' / 'cub'
    (dest / BIRDS / '001' / '0.jpg').unlink()
    with pytest.raises(InputError, match=r'001/0\.jpg\n.*existed before.*remove it'):
        prepare_cub(cub)


# ---- the validation images --------------------------------------------------------------------


def test_val_is_the_same_everywhere(cub):
    """The first in the order of sha256('0 PATH'), which sha256sum has computed."""
    val = {f'{BIRDS}/003/1.jpg': 2, f'{BIRDS}/003/2.jpg': 2}
    assert prepare_cub(cub)['val'] == val
    assert prepare_cub(cub, seed=1)['val'] != val
    assert read(cub.parent / 'fgvc/cub/about.json')['val'] == 'ours (seed 1)'


def test_a_tenth_does_not_depend_on_the_order():
    train = [(f'{i}.jpg', i % 7) for i in range(101)]
    rest, val = random_tenth(train, seed=3)
    assert (len(rest), len(val)) == (90, 11) and sorted(rest + val) == sorted(train)
    assert set(random_tenth(train[::-1], seed=3)[1]) == set(val)


def test_each_class_keeps_a_training_image():
    train = [('only.jpg', 1), *((f'{i}.jpg', 0) for i in range(19))]
    for seed in range(50):
        rest, val = random_tenth(train, seed)
        assert len(val) == 2 and ('only.jpg', 1) in rest
    # 11 images, of which 2 are to be drawn: one class may give one, the others none.
    with pytest.raises(InputError, match='cannot draw 2 for validation'):
        random_tenth([('twin.jpg', 0), *((f'{i}.jpg', i) for i in range(10))], seed=0)


def test_a_share_of_each_class():
    train = [(f'{label}/{i}.jpg', label) for label, n in enumerate((10, 3, 2, 1)) for i in range(n)]
    rest, val = random_share(train, 0.25, seed=0)
    # 2.5, 0.75, 0.5 rounded, and none of a class's only image.
    assert [sum(label == k for _, label in val) for k in range(4)] == [3, 1, 1, 0]
    assert sorted(rest + val) == sorted(train)


@pytest.fixture
def splits(cub):
    """CUB's splits as if published: paths without the images' folder, class ids from 1."""
    folder = cub.parent / 'published'
    folder.mkdir()
    rows = {'train': (1, 2, 3), 'val': (0,)}
    for split, numbers in rows.items():
        pairs = {f'00{c}/{i}.jpg': c for c in (1, 2, 3) for i in numbers}
        (folder / f'{split}.json').write_text(json.dumps(pairs))
    return folder


PUBLISHED = FGVCTask(3, 9, 3, 6, 'CUB')


@pytest.mark.parametrize('change', [
    lambda p, c: (p, c), lambda p, c: (f'{BIRDS}/{p}', 10 * c), lambda p, c: (p, f'species {c}'),
])
def test_published_splits(cub, splits, change, monkeypatch):
    monkeypatch.setitem(FGVC_TASKS, 'cub', PUBLISHED)
    for path in splits.glob('*.json'):
        path.write_text(json.dumps(dict(change(*pair) for pair in read(path).items())))
    found = prepare_cub(cub, splits=splits)
    assert found['val'] == {f'{BIRDS}/00{c + 1}/0.jpg': c for c in range(3)}
    assert found['train'] == {f'{BIRDS}/00{c + 1}/{i}.jpg': c for c in range(3) for i in (1, 2, 3)}
    assert read(cub.parent / 'fgvc/cub/about.json')['val'] == 'published'


@pytest.mark.parametrize(
    ('split', 'remove', 'add', 'message'),
    [
        ('val', None, {'001/9.jpg': 1}, 'val.json: 001/9.jpg not among the official images'),
        ('val', None, {'001/1.jpg': 1}, 'CUB_200_2011/images/001/1.jpg both in train and in val'),
        ('val', None, {'001/4.jpg': 1}, 'CUB_200_2011/images/001/4.jpg both in val and in test'),
        ('train', '001/1.jpg', {}, 'train: 8 images, expected 9'),
    ],
)
def test_wrong_published_splits(cub, splits, split, remove, add, message, monkeypatch):
    monkeypatch.setitem(FGVC_TASKS, 'cub', PUBLISHED)
    pairs = read(splits / f'{split}.json')
    pairs.pop(remove, None)
    (splits / f'{split}.json').write_text(json.dumps({**pairs, **add}))
    assert_refused(cub, message, splits=splits)


def test_published_splits_that_are_not_there(cub, splits):
    (splits / 'val.json').unlink()
    assert_refused(cub, 'lacks val.json', 'original links', 'are dead', splits=splits)
    write_flowers(cub)
    assert_refused(cub, '--splits', 'has an official val', name='flowers', splits=splits)


# ---- what can be wrong ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'parts'),
    [
        ('cub', ['CUB_200_2011.tgz (or CUB_200_2011/)', 'https://www.vision.caltech.edu/']),
        ('nabirds', ['nabirds.tar.gz (or nabirds/)', 'https://dl.allaboutbirds.org/nabirds']),
        ('flowers', ['102flowers.tgz (or jpg/), imagelabels.mat, setid.mat', 'robots.ox.ac.uk']),
        ('dogs', ['images.tar (or Images/), train_list.mat, test_list.mat', 'ImageNetDogs']),
        ('cars', ['car_ims.tgz (or car_ims/), cars_annos.mat', 'cars_train.tgz', 'is dead']),
    ],
)
def test_an_empty_folder(name, parts, tmp_path):
    (tmp_path / 'source').mkdir()
    assert_refused(tmp_path / 'source', *parts, name=name)
    assert_refused(tmp_path / 'none', 'is not a folder', name=name)


def test_one_list_is_missing(tmp_path):
    write_flowers(tmp_path / 'source')
    (tmp_path / 'source' / 'setid.mat').unlink()
    message = assert_refused(tmp_path / 'source', 'lacks setid.mat.\n', name='flowers')
    assert 'lacks 102flowers' not in message


@pytest.mark.parametrize(
    'file', ['images', 'image_class_labels', 'train_test_split', 'classes']
)
def test_a_text_list_is_missing(cub, file):
    (cub / f'CUB_200_2011/{file}.txt').unlink()
    assert_refused(cub, f'CUB_200_2011/{file}.txt does not exist')


def replace_line(path, old, new):
    text = path.read_text()
    assert text.count(f'{old}\n') == 1
    path.write_text(text.replace(f'{old}\n', f'{new}\n' if new else ''))


@pytest.mark.parametrize(
    ('file', 'old', 'new', 'message'),
    [
        ('images', '1-0 001/0.jpg', '1-0 001/1.jpg', '001/1.jpg listed more than once'),
        ('images', '1-0 001/0.jpg', '1-0 001/4.jpg', '001/4.jpg both in train and in test'),
        ('images', '1-0 001/0.jpg', '1-1 001/0.jpg', 'images.txt, line 2: id 1-1 occurs twice'),
        ('images', '1-0 001/0.jpg', '1-0 001/9.jpg', 'do not exist'),
        ('images', '1-0 001/0.jpg', '1-0 ../../../x.jpg', '../../../x.jpg outside'),
        ('images', '1-0 001/0.jpg', '1-0', "line 1: '1-0': expected an id and a value"),
        ('images', '1-0 001/0.jpg', '', 'expected'),
        ('image_class_labels', '1-0 1', '1-0 4', '001/0.jpg (3) with a label outside 0 to 2'),
        ('image_class_labels', '1-0 1', '1-0 0', '001/0.jpg (-1) with a label outside 0 to 2'),
        ('image_class_labels', '1-0 1', '1-0 x', "id 1-0 has 'x', expected a number"),
        ('image_class_labels', '1-0 1', '', 'image_class_labels.txt: lacks image 1-0'),
        ('train_test_split', '1-0 1', '', 'train_test_split.txt: lacks image 1-0'),
        ('train_test_split', '1-0 1', '1-0 0', 'test: 7 images, expected 6'),
        ('classes', '1 001.Ant', 'x 001.Ant', "id 'x': expected the number of a class"),
    ],
)
def test_a_wrong_text_list(cub, file, old, new, message):
    replace_line(cub / f'CUB_200_2011/{file}.txt', old, new)
    assert_refused(cub, message)


def test_all_problems_are_told_at_once(cub):
    replace_line(cub / 'CUB_200_2011/images.txt', '1-0 001/0.jpg', '1-0 001/4.jpg')
    replace_line(cub / 'CUB_200_2011/image_class_labels.txt', '3-5 3', '3-5 8')
    (cub / BIRDS / '002/4.jpg').unlink()
    (cub / BIRDS / '002/5.jpg').write_bytes(b'GIF')
    message = assert_refused(
        cub,
        'cub: 4 things are wrong\n',
        f'test: {BIRDS}/003/5.jpg (7) with a label',
        'test: 1 of its 6 images do not exist',
        f'{BIRDS}/001/4.jpg both in',
        f'{BIRDS}/002/5.jpg cannot be read as an image',
    )
    assert message.count('\n  - ') == 4


def test_unreadable_images(cub):
    path = cub / BIRDS / '003/1.jpg'
    path.write_bytes(path.read_bytes()[:-20])  # PIL's verify alone finds nothing wrong in it
    assert_refused(cub, f'cub: {BIRDS}/003/1.jpg cannot be read as an image')


def test_other_counts(cub, monkeypatch):
    monkeypatch.setitem(FGVC_TASKS, 'cub', FGVCTask(4, 5394, 600, 5794, 'CUB'))
    assert_refused(
        cub,
        'train: 10 images, expected 5394', 'val: 2 images, expected 600',
        'test: 6 images, expected 5794', 'train: images of 3 classes, expected 4', '--not-official',
    )
    assert len(prepare_cub(cub, official_counts=False)['test']) == 6
    assert read(cub.parent / 'fgvc/cub/about.json')['official_counts'] is False


def test_other_counts_of_all_classes(cub):
    (cub / 'CUB_200_2011/images/001/5.jpg').unlink()
    replace_line(cub / 'CUB_200_2011/images.txt', '1-5 001/5.jpg', '')
    assert len(prepare_cub(cub, official_counts=False)['test']) == 5
    assert read(cub.parent / 'fgvc/cub/about.json')['official_counts'] is False


@pytest.mark.parametrize(
    ('file', 'content', 'message'),
    [
        ('setid.mat', {'trnid': [[1]], 'valid': [[2]]}, 'setid.mat:  tstid cannot be read'),
        ('setid.mat', {'trnid': [[10]], 'valid': [[2]], 'tstid': [[3]]}, 'trnid has image 10'),
        ('setid.mat', {'trnid': [[0]], 'valid': [[2]], 'tstid': [[3]]}, 'trnid has image 0'),
        ('setid.mat', {'trnid': [[1, 1]], 'valid': [[2]], 'tstid': [[3]]}, 'listed more than once'),
        ('setid.mat', {'trnid': [[1]], 'valid': [[2]], 'tstid': [[2]]}, 'both in val and in test'),
        ('setid.mat', None, 'setid.mat:  trnid cannot be read'),
        ('imagelabels.mat', {'labels': [[4] * 9]}, 'with a label outside 0 to 2'),
    ],
)
def test_wrong_mat_files(file, content, message, tmp_path):
    source = tmp_path / 'source'
    write_flowers(source)
    if content is None:
        (source / file).write_bytes(b'not a mat file')
    else:
        savemat(source / file, content)
    assert_refused(source, message, name='flowers')


def test_columns_of_unequal_length(tmp_path):
    write_dogs(tmp_path / 'source')
    content = {'file_list': cells(['a/b.jpg', 'a/c.jpg']), 'labels': [[1]]}
    savemat(tmp_path / 'source' / 'test_list.mat', content)
    message = 'test_list.mat: 2 of file_list, 1 of labels'
    assert_refused(tmp_path / 'source', message, name='dogs')


# ---- archives ---------------------------------------------------------------------------------


def test_a_python_without_the_filter(cub, monkeypatch):
    monkeypatch.delattr(tarfile, 'data_filter', raising=False)
    pack(cub, 'CUB_200_2011.tgz', 'CUB_200_2011')
    assert_refused(cub, 'this Python cannot extract safely; expected 3.10.12, 3.11.4 or later')


@extracts
@pytest.mark.parametrize('archive', ['CUB_200_2011.tgz', 'CUB_200_2011.tar'])
def test_a_truncated_archive(cub, archive):
    """Cut anywhere, in the middle of an image as between two or before the end mark."""
    pack(cub, archive, 'CUB_200_2011')
    whole = (cub / archive).read_bytes()
    end = len(whole.rstrip(b'\0'))
    for size in (0, 100, len(whole) // 2, len(whole) // 1024 * 512, min(end + 512, len(whole) - 4)):
        size = size // 512 * 512 if archive.endswith('.tar') and size > end else size
        (cub / archive).write_bytes(whole[:size])
        assert_refused(cub, archive, 'damaged or not fully downloaded')
        assert not (cub.parent / 'fgvc/cub/CUB_200_2011').exists()
    (cub / archive).write_bytes(whole)
    assert len(prepare_cub(cub)['test']) == 6


def test_a_truncated_archive_of_lists(tmp_path):
    source = tmp_path / 'source'
    write_dogs(source)
    pack(source, 'lists.tar', 'train_list.mat', 'test_list.mat')
    content = (source / 'lists.tar').read_bytes()
    (source / 'lists.tar').write_bytes(content[:700])
    assert_refused(source, 'lists.tar: damaged', name='dogs')


@extracts
def test_an_archive_with_a_changed_byte(cub):
    pack(cub, 'CUB_200_2011.tgz', 'CUB_200_2011')
    content = bytearray((cub / 'CUB_200_2011.tgz').read_bytes())
    content[-8] ^= 1  # gzip's checksum
    (cub / 'CUB_200_2011.tgz').write_bytes(content)
    assert_refused(cub, 'CUB_200_2011.tgz: damaged')


def member(kind, name, link=''):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 3 * (kind == tarfile.REGTYPE)
    return info


@extracts
@pytest.mark.parametrize(
    'bad',
    [
        member(tarfile.REGTYPE, '../escaped.txt'),
        member(tarfile.REGTYPE, 'CUB_200_2011/../../../escaped.txt'),
        member(tarfile.SYMTYPE, 'CUB_200_2011/link', '../../escaped.txt'),
        member(tarfile.SYMTYPE, 'CUB_200_2011/link', '/escaped.txt'),
        member(tarfile.LNKTYPE, 'CUB_200_2011/link', '../escaped.txt'),
    ],
    ids=['parent', 'detour', 'link', 'absolute link', 'hard link'],
)
def test_a_member_that_escapes(cub, bad):
    pack(cub, 'CUB_200_2011.tar', 'CUB_200_2011')
    with tarfile.open(cub / 'CUB_200_2011.tar', 'a') as tar:
        tar.addfile(bad, io.BytesIO(b'bad'))
    before = {path for path in cub.parent.rglob('*') if path.is_file()}
    assert_refused(cub, 'CUB_200_2011.tar: refused, as it would write outside')
    assert {path for path in cub.parent.rglob('*') if path.is_file()} == before


@extracts
def test_another_archive_of_that_name(cub):
    (cub / 'CUB_200_2011').rename(cub / 'birds')
    pack(cub, 'CUB_200_2011.tgz', 'birds')
    assert_refused(cub, 'has no folder CUB_200_2011')


@extracts
def test_an_interrupted_extraction_leaves_nothing_that_passes(cub, monkeypatch):
    pack(cub, 'CUB_200_2011.tgz', 'CUB_200_2011')
    extract, count = tarfile.TarFile.extract, [0]

    def interrupted(self, *args, **kwargs):
        count[0] += 1
        if count[0] > 10:
            raise KeyboardInterrupt
        return extract(self, *args, **kwargs)

    dest = cub.parent / 'fgvc' / 'cub'
    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, 'extract', interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_cub(cub)
    assert list(dest.iterdir()) == []
    # A process that is killed does not clean up.
    (dest / '.CUB_200_2011.part' / 'CUB_200_2011').mkdir(parents=True)
    assert len(prepare_cub(cub)['test']) == 6
    assert not (dest / '.CUB_200_2011.part').exists()


def test_no_list_stands_beside_one_of_another_run(tmp_path, monkeypatch):
    old = {'train.json': 'old', 'val.json': 'old', 'test.json': 'old'}
    write_lists(tmp_path, old)
    replace, done = os.replace, []

    def interrupted(source, target):
        if done:
            raise KeyboardInterrupt
        done.append(target)
        replace(source, target)

    monkeypatch.setattr('os.replace', interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_lists(tmp_path, dict.fromkeys(old, 'new'))
    assert [path.read_text() for path in tmp_path.glob('*.json')] == ['new']


# ---- VTAB-1K ----------------------------------------------------------------------------------


@pytest.fixture
def vtab(tmp_path, monkeypatch):
    """Two tasks of two classes in the community's layout, with small counts."""
    monkeypatch.setattr(
        benchmarks, 'VTAB_SPLITS', {'train800': 4, 'val200': 2, 'train800val200': 6, 'test': None}
    )
    monkeypatch.setattr('lspt_mm.converters.vtab1k.SPLITS', benchmarks.VTAB_SPLITS)
    for task in ('dtd', 'kitti'):
        monkeypatch.setitem(VTAB_TASKS, task, VTABTask('natural', 2, 3, task.upper()))
        folder = tmp_path / 'source' / task
        rows = {}
        for split, count in (('train800', 4), ('val200', 2), ('test', 3)):
            rows[split] = [f'images/{split}/{i}.jpg {i % 2}' for i in range(count)]
            for row in rows[split]:
                image(folder / row.split()[0])
            lines(folder / f'{split}.txt', rows[split])
        lines(folder / 'train800val200.txt', rows['train800'] + rows['val200'])
    return tmp_path / 'source'


def assert_vtab_refused(vtab, *parts, tasks=('dtd', 'kitti'), **kwargs):
    with pytest.raises(InputError) as error:
        prepare_vtab(vtab, vtab.parent / 'dest', tasks=tasks, **kwargs)
    for part in parts:
        assert part in str(error.value)
    assert not list((vtab.parent / 'dest').rglob('*.txt'))


@pytest.mark.parametrize('copy', [False, True])
def test_tasks_of_vtab(vtab, copy):
    dest = vtab.parent / 'dest'
    (vtab / 'kitti' / 'train800val200.txt').unlink()
    before = sorted(vtab.rglob('*'))
    told = prepare_vtab(vtab, dest, tasks=['dtd', 'kitti'], copy=copy)
    assert told.splitlines() == [
        f'{t}: train800 4, val200 2, train800val200 6, test 3 images in {dest / t}'
        for t in ('dtd', 'kitti')
    ]
    assert sorted(vtab.rglob('*')) == before
    for task in ('dtd', 'kitti'):
        assert (dest / task / 'images').is_symlink() != copy
        for split in benchmarks.VTAB_SPLITS:
            data = VTAB1K(task, split, data_root=str(dest), serialize_data=False)
            assert data[1]['gt_label'] == 1
        assert (dest / task / 'train800val200.txt').read_text() == (
            (vtab / task / 'train800.txt').read_text() + (vtab / task / 'val200.txt').read_text()
        )
    assert read(dest / 'dtd' / 'about.json') == {
        'name': 'DTD', 'classes': ['0', '1'], 'val': 'official', 'official_counts': True,
    }


def of_its_own(vtab, labels):
    """The usual archive has copies of the images for train800val200."""
    rows = [f'images/train800val200/{i}.jpg {label}' for i, label in enumerate(labels)]
    for row in rows:
        image(vtab / 'dtd' / row.split()[0])
    lines(vtab / 'dtd/train800val200.txt', rows)


def test_copies_for_the_list_of_both(vtab):
    of_its_own(vtab, [0, 0, 0, 1, 1, 1])
    prepare_vtab(vtab, vtab.parent / 'dest', tasks=['dtd'])
    data = VTAB1K('dtd', 'train800val200', data_root=str(vtab.parent / 'dest'))
    assert len(data) == 6 and data[5]['gt_label'] == 1


def test_copies_with_other_labels(vtab):
    of_its_own(vtab, [0, 0, 0, 0, 1, 1])
    assert_vtab_refused(vtab, 'train800val200.txt is not', 'label 0, label 1', tasks=['dtd'])


def test_copies_of_test_images(vtab):
    rows = ['images/test/0.jpg 0', *(f'images/both/{i}.jpg {i % 2}' for i in range(1, 6))]
    for row in rows[1:]:
        image(vtab / 'dtd' / row.split()[0])
    lines(vtab / 'dtd/train800val200.txt', rows)
    assert_vtab_refused(vtab, 'images/test/0.jpg both in train800val200 and in test', tasks=['dtd'])


def test_a_folder_of_prepared_tasks_is_no_source(vtab):
    for task in ('dtd', 'kitti'):
        prepare_vtab(vtab, vtab / 'vtab-1k', tasks=[task])
    assert {path.name for path in (vtab / 'vtab-1k').iterdir()} == {'dtd', 'kitti'}


def test_the_folder_that_holds_the_archive(vtab):
    vtab.rename(vtab.parent / 'vtab-1k')
    prepare_vtab(vtab.parent, vtab.parent / 'dest', tasks=['dtd'])
    assert (vtab.parent / 'dest/dtd/about.json').is_file()


def test_a_task_in_place(vtab):
    before = {path: path.read_bytes() for path in vtab.rglob('*.txt')}
    prepare_vtab(vtab, vtab, tasks=['dtd'])
    assert {path: path.read_bytes() for path in vtab.rglob('*.txt')} == before


def test_missing_tasks(vtab):
    assert_vtab_refused(
        vtab, 'lacks 17 of 19 tasks: cifar, caltech101, oxford_flowers102', '--task', 'NOAH',
        tasks=(),
    )
    shutil.rmtree(vtab / 'dtd')
    (vtab / 'kitti' / 'test.txt').unlink()
    assert_vtab_refused(
        vtab, '2 things are wrong', 'lacks 1 of 2 tasks: dtd', 'kitti: ', 'lacks test.txt'
    )
    assert_vtab_refused(vtab / 'none', 'is not a folder')


@pytest.mark.parametrize(
    ('split', 'old', 'new', 'message'),
    [
        ('val200', 'images/val200/0.jpg 0', 'images/val200/0.jpg', 'val200.txt, line 1'),
        ('val200', 'images/val200/0.jpg 0', 'images/val200/0.jpg 2', 'outside 0 to 1'),
        ('val200', 'images/val200/0.jpg 0', 'images/test/0.jpg 0', 'both in val200 and in test'),
        ('val200', 'images/val200/0.jpg 0', 'images/val200/1.jpg 0', 'listed more than once'),
        ('val200', 'images/val200/0.jpg 0', 'images/val200/9.jpg 0', 'do not exist'),
        ('val200', 'images/val200/0.jpg 0', '../0.jpg 0', '../0.jpg outside'),
        ('val200', 'images/val200/0.jpg 0', '', 'val200: 1 images, expected 2'),
        ('train800val200', 'images/val200/0.jpg 0', '', 'together: images/val200/0.jpg 0'),
        ('train800val200', 'images/val200/0.jpg 0', 'images/val200/0.jpg 1', 'is not train800.txt'),
    ],
)
def test_a_wrong_task(vtab, split, old, new, message):
    replace_line(vtab / 'kitti' / f'{split}.txt', old, new)
    assert_vtab_refused(vtab, 'kitti: ', message)


def test_an_unreadable_image_of_a_task(vtab):
    (vtab / 'dtd/images/test/2.jpg').write_bytes(b'')
    assert_vtab_refused(vtab, 'dtd: images/test/2.jpg cannot be read as an image')


# ---- folders of one's own images --------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    for split, count in (('train', 5), ('val', 1), ('test', 2)):
        for name in ('bee', 'ant'):
            for i in range(count):
                image(tmp_path / 'photos' / split / name / f'{i}.JPG')
    (tmp_path / 'photos' / 'train' / 'bee' / 'notes.txt').write_text('no image')
    return tmp_path / 'photos'


def prepare_photos(photos, **kwargs):
    dest = photos.parent / 'dest'
    prepare_image_folder(photos, dest, **kwargs)
    return lists_of(dest), read(dest / 'about.json')


def test_an_image_folder(photos):
    found, about = prepare_photos(photos)
    assert found['val'] == {'val/ant/0.JPG': 0, 'val/bee/0.JPG': 1}
    for split, count in (('train', 5), ('test', 2)):
        assert found[split] == {
            f'{split}/{name}/{i}.JPG': label
            for label, name in enumerate(('ant', 'bee')) for i in range(count)
        }
    assert about == {
        'name': 'photos', 'classes': ['ant', 'bee'], 'val': 'official', 'multi_label': False,
        'images': {'train': 10, 'val': 2, 'test': 4},
    }
    dest = photos.parent / 'dest'
    assert len(ListedImages('train.json', num_classes=2, data_root=str(dest))) == 10
    assert (dest / 'train').is_symlink()


def test_where_links_cannot_be_made_images_are_copied(tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise OSError('a required privilege is not held')

    monkeypatch.setattr(Path, 'symlink_to', refuse)
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos/a.txt').write_text('a')
    assert not link_or_copy(tmp_path / 'photos', tmp_path / 'dest', copy=False)
    assert (tmp_path / 'dest/a.txt').read_text() == 'a'
    assert 'photos is copied' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('has_val', 'kwargs', 'counts'),
    [
        (True, {'val_share': 0.4}, (6, 4, 4)),
        (False, {}, (8, 2, 4)),  # a tenth, but at least one of each class
        (False, {'val_share': 0.4, 'seed': 5}, (6, 4, 4)),
    ],
)
def test_val_is_drawn(photos, has_val, kwargs, counts):
    if not has_val:
        shutil.rmtree(photos / 'val')
    found, about = prepare_photos(photos, **kwargs)
    assert tuple(len(pairs) for pairs in found.values()) == counts
    assert not set(found['train']) & set(found['val'])
    assert about['val'] == f'ours (seed {kwargs.get("seed", 0)})'


@pytest.mark.parametrize(
    ('name', 'kwargs', 'message'),
    [
        ('fit', {}, 'lacks train; it has fit, test, val.*rename yours'),
        ('train', {'val_share': 1.0}, 'from 0 to below 1'),
        ('train', {'test_share': 0.1}, 'the data have test images of their own'),
    ],
)
def test_wrong_splits(photos, name, kwargs, message):
    (photos / 'train').rename(photos / name)
    with pytest.raises(InputError, match=message):
        prepare_photos(photos, **kwargs)
    assert not list((photos.parent / 'dest').glob('*.json'))


def test_one_image_of_each_class(tmp_path):
    for split in ('train', 'test'):
        for i, name in enumerate(('ant', 'bee')):
            save_image(tmp_path / 'few' / split / name / '0.jpg', 4, 4, seed=10 * len(split) + i)
    with pytest.raises(InputError, match='--val-share 0 validates on the training images'):
        prepare_photos(tmp_path / 'few')
    found, about = prepare_photos(tmp_path / 'few', val_share=0)
    assert found['val'] == found['train'] and len(found['train']) == 2
    assert about['val'] == 'the training images'


def test_equal_images_and_files_left_out(photos):
    save_image(photos / 'train/ant/0.JPG', 4, 4, seed=77)
    for place in ('test/bee/copy.jpg', 'train/bee/copy.jpg'):
        shutil.copy(photos / 'train/ant/0.JPG', photos / place)
    (photos / 'train/ant/notes.txt').touch()
    (photos / 'train/ant/.ipynb_checkpoints').mkdir()
    shutil.copy(photos / 'train/ant/0.JPG', photos / 'train/ant/.ipynb_checkpoints/0.JPG')
    said = prepare_image_folder(photos, photos.parent / 'dest')
    for line in (
        'note: train/ant/0.JPG and train/bee/copy.jpg are one image, with two classes',
        'note: train/ant/0.JPG and test/bee/copy.jpg are one image, in train and in test, with',
        'note: train: 2 files left out (2 .txt)',
    ):
        assert line in said
    assert '.ipynb_checkpoints' not in (photos.parent / 'dest/train.json').read_text()
    with pytest.raises(InputError, match='are one image'):
        prepare_image_folder(photos, photos.parent / 'dest', fail_on_duplicates=True)


def test_wrong_images_in_folders(photos):
    image(photos / 'test' / 'wasp' / '0.jpg')
    (photos / 'train' / 'cat').mkdir()
    whole = (photos / 'val/bee/0.JPG').read_bytes()
    for path, content in (('train/bee/1', whole[:-20]), ('val/ant/0', b''), ('val/bee/0', b'<p>')):
        (photos / f'{path}.JPG').write_bytes(content)
    with pytest.raises(InputError) as error:
        prepare_photos(photos)
    for part in (
        '3 things are wrong', 'test: classes wasp, which train lacks', 'train: no image in cat',
        'train/bee/1.JPG, val/ant/0.JPG, val/bee/0.JPG cannot be read as an image',
    ):
        assert part in str(error.value)


# ---- the command ------------------------------------------------------------------------------


def test_the_command(cub):
    dest = cub.parent / 'dest'
    command = ['dataset_converters/prepare.py', 'cub', '--from', cub, '--to', dest]
    run = run_tool(*command)  # with the real table
    assert run.code == 2
    assert 'error: cub: 4 things are wrong' in run.err and 'expected 5394' in run.err
    assert 'Traceback' not in run.err
    run = run_ok(*command, '--not-official', '--seed', 4)
    assert f'CUB-200-2011: train 10, val 2, test 6 images of 3 classes in {dest}' in run.out
    assert 'val is ours (seed 4); NOT the official counts' in run.out
    assert read(dest / 'about.json')['official_counts'] is False


def test_the_help_lists_no_empty_lines_of_data_sets():
    assert 'SUPPRESS' not in run_ok('dataset_converters/prepare.py', '--help').out


def test_a_destination_that_is_a_file(tmp_path):
    (tmp_path / 'file').touch()
    run = run_tool(
        'dataset_converters/prepare.py', 'imagefolder', '--from', tmp_path, '--to',
        tmp_path / 'file', cwd=tmp_path,
    )
    assert run.code == 2
    assert 'is a file, expected a folder' in run.err
