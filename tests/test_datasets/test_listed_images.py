"""Split files of both forms: what is read, and each way in which a file can be wrong."""

import json

import pytest
from miniatures import save_image
from mmpretrain.datasets import CustomDataset

from lspt_mm.datasets import ListedImages
from lspt_mm.errors import InputError

LINES = ['images/a.jpg 0', 'images/sub dir/b.jpg 2', 'images/c.jpg 1']


@pytest.fixture
def root(tmp_path):
    for line in LINES:
        save_image(tmp_path / line.rpartition(' ')[0])
    (tmp_path / 'split.txt').write_text('\n'.join(LINES) + '\n')
    pairs = {line.rpartition(' ')[0]: int(line.rpartition(' ')[2]) for line in LINES}
    (tmp_path / 'split.json').write_text(json.dumps(pairs))
    return tmp_path


def listed(root, ann_file='split.txt', **kwargs):
    return ListedImages(ann_file, **{'num_classes': 3, 'data_root': str(root), **kwargs})


@pytest.mark.parametrize('name', ['split.txt', 'split.json'])
def test_what_is_read(name, root):
    data = listed(root, name)
    assert [data[i]['gt_label'] for i in range(len(data))] == [0, 2, 1]
    assert data[1]['img_path'] == str(root / 'images/sub dir/b.jpg')
    assert list(data.metainfo['classes']) == ['0', '1', '2']


def test_as_mmpretrains_own_reader_of_lists(root):
    theirs = CustomDataset(data_root=str(root), ann_file='split.txt', data_prefix='')
    ours = listed(root)
    for i in range(3):
        assert theirs[i]['gt_label'] == ours[i]['gt_label']
        assert theirs[i]['img_path'] == ours[i]['img_path']


@pytest.mark.parametrize(
    ('lines', 'message'),
    [
        ([], 'names no image'),
        ([*LINES, LINES[0]], r'images/a\.jpg occurs 2 times'),
        ([*LINES[:2], 'images/a.jpg 1'], 'occurs 2 times'),
        ([*LINES[:2], 'images/c.jpg 3'], r'images/c\.jpg has label 3, expected 0 to 2'),
        ([*LINES[:2], 'images/c.jpg'], r"line 3: 'images/c\.jpg'"),
        ([*LINES[:2], 'images/c.jpg -1'], 'line 3'),
        ([*LINES[:2], 'images/c.jpg x'], 'line 3'),
        ([*LINES, '../other/d.jpg 1'], r'\.\./other/d\.jpg lies outside the data'),
        ([*LINES, '/etc/d.jpg 1'], r'/etc/d\.jpg lies outside the data'),
        ([*LINES, 'images/gone.jpg 1'], r'1 of its 4 images do not exist.*gone\.jpg'),
    ],
    ids=str,
)
def test_a_wrong_list(lines, message, root):
    (root / 'split.txt').write_text('\n'.join(lines))
    with pytest.raises(InputError, match=message):
        listed(root)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', 'not a JSON file'),
        ('[1, 2]', 'expected'),
        ('3', 'expected'),
        ('{"images/a.jpg": 1.5}', r'label 1\.5'),
        ('{"images/a.jpg": true}', 'label True'),
        ('{"images/a.jpg": "x"}', "label 'x'"),
        ('{"images/a.jpg": -1}', 'label -1'),
        ('{"images/a.jpg": 0, "images/a.jpg": 1}', 'occurs 2 times'),
        ('{"images/a.jpg": {"b": 1}}', 'expected'),
        ('{}', 'names no image'),
    ],
)
def test_a_wrong_json_file(text, message, root):
    (root / 'split.json').write_text(text)
    with pytest.raises(InputError, match=message):
        listed(root, 'split.json')


def test_several_labels_or_none(root):
    pairs = {'images/a.jpg': [0, 2], 'images/sub dir/b.jpg': [], 'images/c.jpg': ['1']}
    (root / 'split.json').write_text(json.dumps(pairs))
    data = listed(root, 'split.json', multi_label=True)
    assert [data[i]['gt_label'] for i in range(3)] == [[0, 2], [], [1]]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{"images/a.jpg": 1}', 'images/a.jpg has 1, expected a list of different labels'),
        ('{"images/a.jpg": [1, 1]}', r'has \[1, 1\], expected a list of different labels'),
        ('{"images/a.jpg": [1.5]}', r'label 1\.5, expected an integer'),
        ('{"images/a.jpg": [0, 3]}', 'has label 3, expected 0 to 2'),
        ('{"images/a.jpg": [[1]]}', r'label \[1\], expected an integer'),
    ],
)
def test_wrong_lists_of_labels(text, message, root):
    (root / 'split.json').write_text(text)
    with pytest.raises(InputError, match=message):
        listed(root, 'split.json', multi_label=True)


def test_lists_of_labels_need_their_argument(root):
    (root / 'split.json').write_text('{"images/a.jpg": [1]}')
    with pytest.raises(InputError, match='lists are for multi_label=True'):
        listed(root, 'split.json')
    with pytest.raises(InputError, match='split.txt: multi_label=True, expected a list that ends'):
        listed(root, multi_label=True)


def test_counts(root):
    assert len(listed(root, num_images=3)) == 3
    with pytest.raises(InputError, match='has 3 images, expected 4'):
        listed(root, num_images=4)
    with pytest.raises(InputError, match=r'no\.txt does not exist'):
        listed(root, 'no.txt')
