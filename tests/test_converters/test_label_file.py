"""Tables of labels: what is read as meant, and what is refused by line and value."""

import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from lspt_mm.converters.image_folder import prepare_image_folder
from lspt_mm.converters.label_file import read_label_file
from lspt_mm.datasets import ListedImages
from lspt_mm.errors import InputError


@pytest.fixture
def photos(tmp_path):
    """p0.png to p7.png, and far/p8.png."""
    (tmp_path / 'photos/far').mkdir(parents=True)
    for i in range(9):
        pixels = np.random.default_rng(i).integers(0, 256, (9, 9, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f'photos/{"far/" * (i == 8)}p{i}.png')
    return tmp_path / 'photos'


def read(photos, text, encoding='utf-8'):
    path = photos.parent / 'labels.csv'
    path.write_bytes(text.encode(encoding))
    return read_label_file(path, photos)


NAMES = 'image,label\np0.png,red car\np1.png,sky\np2.png,red car|sky\np3.png,\nfar/p8.png,sky\n'
COLUMNS = 'image,red car,sky\np0.png,1,0\np1.png,0,1\np2.png,1,1\np3.png,0,0\nfar/p8.png,0,1\n'


@pytest.mark.parametrize('text', [
    NAMES, COLUMNS, '\ufeff' + NAMES.replace('\n', '\r\n'), NAMES.replace('|', ' ; '),
    NAMES.replace('far/', ''),
    NAMES.replace('.png', ''), NAMES.replace('far/', 'far\\'), COLUMNS.replace(',', ', '),
    NAMES + '\n,\n', NAMES.replace('red car|sky', 'sky|red car|sky|'),
])
def test_several_labels_or_none(photos, text):
    found = read(photos, text)
    assert (found.classes, found.multi_label) == (['red car', 'sky'], True)
    assert found.splits == {'train': [
        ('p0.png', [0]), ('p1.png', [1]), ('p2.png', [0, 1]), ('p3.png', []), ('far/p8.png', [1]),
    ]}
    (note,) = found.notes
    assert note == '4 images that labels.csv does not name are left out: p4.png, p5.png, p6.png, ' \
                   '... (4 in all)'


@pytest.mark.parametrize(('several', 'effect'), [
    ('p0.png,a|b,train', '; in its macro F1 and mAP they count as 0'), ('p0.png,a,train', ''),
])
def test_what_a_class_without_an_image_counts_is_said(photos, several, effect, tmp_path):
    (photos.parent / 'labels.csv').write_text(
        f'image,label,split\n{several}\np1.png,b,train\np2.png,c,train\np3.png,c,val\n'
        'p4.png,b,test\n'
    )
    said = prepare_image_folder(photos, tmp_path / 'out', labels=photos.parent / 'labels.csv')
    lines = [line for line in said.splitlines() if 'no image of' in line]
    assert lines == [
        f'note: val: no image of a, b{effect}', f'note: test: no image of a, c{effect}'
    ]


@pytest.mark.parametrize('place', ['photos', 'link'])
def test_absolute_paths(photos, place):
    (photos.parent / 'link').symlink_to(photos)
    (photos.parent / 'labels.csv').write_text(
        f'image,label\n{photos}/p0.png,a\n{photos}/far/p8.png,b\n'
    )
    found = read_label_file(photos.parent / 'labels.csv', photos.parent / place)
    assert found.splits['train'] == [('p0.png', 0), ('far/p8.png', 1)]


@pytest.mark.parametrize('text', [
    'file,species\np0.png,b c\np1.png,a\n', 'file,b c,a\np0.png,1,0\np1.png,0,1\n',
])
def test_one_label_each(photos, text):
    found = read(photos, text)
    assert not found.multi_label
    names = [(name, found.classes[label]) for name, label in found.splits['train']]
    assert names == [('p0.png', 'b c'), ('p1.png', 'a')]


def test_a_column_of_splits(photos):
    found = read(photos, 'image,Split,label\np0.png,train,a\np1.png,training,b\np2.png,valid,a\n'
                         'p3.png,TEST,b\n')
    assert found.splits == {'train': [('p0.png', 0), ('p1.png', 1)], 'val': [('p2.png', 0)],
                            'test': [('p3.png', 1)]}


def test_folders_of_splits(photos):
    for name in ('train', 'valid'):
        (photos / name).mkdir()
    for i, place in enumerate(('train', 'train', 'valid')):
        (photos / f'p{i}.png').rename(photos / place / f'p{i}.png')
    found = read(photos, 'image,label\np0.png,a\np1.png,b\nvalid/p2.png,a\n')
    assert found.splits['val'] == [('valid/p2.png', 0)] and len(found.splits['train']) == 2


@pytest.mark.parametrize(('text', 'message'), [
    ('', 'names no image; expected a first line of titles'),
    ('image,label\n', 'names no image'),
    ('p0.png,a\np1.png,b\n', "line 1: 'p0.png' is an image; expected a first line of titles"),
    ('image\np0.png\n', "line 1: no column of labels in 'image'"),
    ('image;label\np0.png;a\n', "line 1: 'image;label': expected commas"),
    (',image,label\n0,p0.png,a\n', 'column 1 of 3 has no title; pandas'),
    ('image,,label\np0.png,a,b\n', 'line 1: column 2 of 3 has no title'),
    ('image,a,a\np0.png,1,0\n', 'line 1: two columns are called a'),
    ('image,label\np0.png,a\np0.png,b\n', "line 3: 'p0.png' is in line 2 already"),
    ('image,label\nfar/p8.png,a\np8.png,b\n', "line 3: 'far/p8.png' is in line 2"),
    ('image,label\np0.png,a\nx.png,b\n', "line 3: 'x.png' is no image; expected a path below"),
    ('image,label\np0.png,a\n,b\n', "line 3: '' is no image"),
    ('image,label\np0.png,a\n../photos/p1.png,b\n', "line 3: '../photos/p1.png' is no image"),
    ('image,label\np0.png,a,b\n', 'line 2: 3 cells, expected 2 as in line 1'),
    ('image,label\np0.png\n', 'line 2: 1 cells, expected 2'),
    ('image,a,b\np0.png,1,0\np1.png,2,0\n', "line 3: '2' in column 'a', expected 0 or 1"),
    ('image,a,b\np0.png,1,\n', "line 2: '' in column 'b', expected 0 or 1"),
    ('image,width,label\np0.png,640,a\n', "line 2: '640' in column 'width', expected 0 or 1"),
    ('image,label,split\np0.png,a,train\np1.png,b,dev\n', "line 3: split 'dev', expected train"),
    ('image,label\np0.png,a\np1.png,a\n', "has the label 'a' alone; expected at least two"),
    ('image,label\np0.png,\n', 'has no label; expected at least two'),
    ('image,label\np0.png,é\np1.png,e\u0301\n', 'labels that look alike'),
    ('image,label,split\np0.png,a,train\np1.png,b,train\np2.png,c,val\n',
     r"no training image has the label 'c' \(line 4, val\)"),
    ('image,label,split\np0.png,a,val\np1.png,b,val\n', 'no image of the split train'),
    ('image,label\np0.png,"a\n', 'not a line of a CSV'),
])
def test_what_is_refused(photos, text, message):
    with pytest.raises(InputError, match=message) as error:
        read(photos, text)
    assert 'labels.csv' in str(error.value)


def test_another_encoding_no_file_and_a_name_of_two_images(photos):
    with pytest.raises(InputError, match='labels.csv: not a text file in UTF-8'):
        read(photos, 'image,label\np0.png,né\n', 'latin-1')
    with pytest.raises(InputError, match='--labels .*absent.csv: no such file'):
        read_label_file(photos / 'absent.csv', photos)
    (photos.parent / 'names.csv').write_text(NAMES)
    with pytest.raises(InputError, match='nowhere: no such folder'):
        read_label_file(photos.parent / 'names.csv', photos.parent / 'nowhere')
    (photos / 'p8.jpg').write_bytes((photos / 'p7.png').read_bytes())
    with pytest.raises(InputError, match="'p8' is the name of far/p8.png, p8.jpg"):
        read(photos, 'image,label\np8,a\np1.png,b\n')


def test_all_lines_are_named_at_once(photos):
    with pytest.raises(InputError, match='labels.csv: 2 lines cannot be used\n'):
        read(photos, 'image,label\nx.png,a\np0.png,a\ny.png,b\n')


def test_prepared_data(photos):
    (photos.parent / 'labels.csv').write_text(
        'image,label\n' + ''.join(f'p{i},{"a" * (i % 2)}|{"b" * (i < 5)}\n' for i in range(8))
    )
    dest = photos.parent / 'data'
    said = prepare_image_folder(photos, dest, labels=photos.parent / 'labels.csv', val_share=0.3)
    assert 'multi-label, 1.' in said and '1 images that labels.csv does not name' in said
    about = json.loads((dest / 'about.json').read_text())
    lists = {part: json.loads((dest / f'{part}.json').read_text()) for part in ('train', 'val')}
    assert about['multi_label'] and not (dest / 'test.json').exists()
    assert about['images'] == {part: len(found) for part, found in lists.items()}
    assert len({**lists['train'], **lists['val']}) == 8
    truth = {f'images/p{i}.png': [0] * (i % 2) + [1] * (i < 5) for i in range(8)}
    assert {**lists['train'], **lists['val']} == truth
    for part, found in lists.items():
        data = ListedImages(f'{part}.json', 2, multi_label=True, data_root=str(dest))
        assert [data.get_data_info(i)['gt_label'] for i in range(len(data))] == [*found.values()]
    assert any(not labels for labels in lists['train'].values())


@pytest.mark.parametrize(('more', 'message'), [
    (dict(test_share=0.5, val_share=0.5), 'expected less than 1 together'),
    (dict(test_share=-1), '--test-share -1: expected a number'),
])
def test_options_that_do_not_fit(photos, more, message):
    path = photos.parent / 'labels.csv'
    path.write_text(NAMES)
    with pytest.raises(InputError, match=message):
        prepare_image_folder(photos, photos.parent / 'data', labels=path, **more)


def test_commas_are_part_of_a_name_or_asked_about(photos):
    for names in (['pike', 'tench, Tinca tinca'], ['Lyon, France', 'Paris, France']):
        found = read(photos, f'image,label\np0.png,"{names[0]}"\np1.png,"{names[1]}"\n')
        assert (found.classes, found.multi_label) == (names, False)
        assert 'commas are part of a name' in found.notes[-1]
    found = read(photos, 'image,"cat, small","dog, small",cat,dog,small\np0.png,1,0,0,0,0\n'
                         'p1.png,0,1,1,1,1\n')
    assert found.classes[0] == 'cat, small'
    with pytest.raises(InputError, match="line 2: 'red car, sky' is one label, but its parts"):
        read(photos, 'image,label\np0.png,"red car, sky"\np1.png,sky\np2.png,red car\n')


@pytest.mark.parametrize('forms', [('NFD', 'NFC'), ('NFC', 'NFD')])
def test_names_in_another_unicode_form(photos, forms):
    name, cell = (unicodedata.normalize(form, 'été.png') for form in forms)
    (photos / 'p0.png').rename(photos / name)
    for text in (cell, cell.removesuffix('.png')):
        found = read(photos, f'image,label\n{text},a\np1.png,b\n')
        assert found.splits['train'][0] == (name, 0)
