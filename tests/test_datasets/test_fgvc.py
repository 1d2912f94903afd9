"""FGVC's table and what the class reads."""

import json

import pytest
from miniatures import save_image

from lspt_mm.datasets import FGVC
from lspt_mm.datasets.fgvc import TASKS, Task
from lspt_mm.errors import InputError


def test_counts_add_up_to_the_official_ones():
    #             training images, test images
    official = {
        'cub': (5994, 5794),
        'nabirds': (23929, 24633),
        'dogs': (12000, 8580),
        'cars': (8144, 8041),
        'flowers': (1020 + 1020, 6149),
    }
    assert {k: (t.num_train + t.num_val, t.num_test) for k, t in TASKS.items()} == official
    for name in ('cub', 'nabirds', 'dogs', 'cars'):  # a tenth, rounded up
        assert 0 <= 10 * TASKS[name].num_val - official[name][0] < 10


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, 'cub', Task(3, 2, 1, 3, 'CUB'))
    lists = {
        'train': {'birds/a.jpg': 0, 'birds/b c.jpg': 2},
        'val': {'birds/d.jpg': 1},
        'test': {'birds/e.jpg': 0, 'birds/f.jpg': 1, 'birds/g.jpg': 2},
    }
    for split, pairs in lists.items():
        for name in pairs:
            save_image(tmp_path / 'cub' / name)
        (tmp_path / 'cub' / f'{split}.json').write_text(json.dumps(pairs))
    return tmp_path


def test_every_split(root):
    for split, labels in (('train', [0, 2]), ('val', [1]), ('test', [0, 1, 2])):
        data = FGVC('cub', split, data_root=str(root))
        assert [data[i]['gt_label'] for i in range(len(data))] == labels
    assert FGVC('cub', 'train', data_root=str(root))[1]['img_path'] == str(
        root / 'cub' / 'birds/b c.jpg'
    )


def test_another_number_of_images(root):
    (root / 'cub' / 'val.json').write_text('{"birds/d.jpg": 1, "birds/e.jpg": 0}')
    with pytest.raises(InputError, match='has 2 images, expected 1'):
        FGVC('cub', 'val', data_root=str(root))
    assert len(FGVC('cub', 'val', data_root=str(root), official_counts=False)) == 2


def test_label_beyond_the_classes(root):
    (root / 'cub' / 'val.json').write_text('{"birds/d.jpg": 3}')
    with pytest.raises(InputError, match='label 3, expected 0 to 2'):
        FGVC('cub', 'val', data_root=str(root))


@pytest.mark.parametrize(('task', 'split'), [('birds', 'test'), ('cub', 'train800'), ('', 'val')])
def test_names(task, split):
    with pytest.raises(ValueError, match='expected one of'):
        FGVC(task, split)
