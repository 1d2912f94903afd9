"""FGVC's and VTAB-1K's tables, and what the classes read."""

import json

import pytest
from miniatures import save_image

from lspt_mm.config.benchmarks import FGVC_TASKS, VTAB_TASKS, FGVCTask
from lspt_mm.datasets import FGVC, VTAB1K
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
    assert {k: (t.num_train + t.num_val, t.num_test) for k, t in FGVC_TASKS.items()} == official
    for name in ('cub', 'nabirds', 'dogs', 'cars'):  # a tenth, rounded up
        assert 0 <= 10 * FGVC_TASKS[name].num_val - official[name][0] < 10


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setitem(FGVC_TASKS, 'cub', FGVCTask(3, 2, 1, 3, 'CUB'))
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


# ---- VTAB-1K ----------------------------------------------------------------------------------


def test_facts_of_the_tasks():
    """Counts and groups add up to the benchmark's."""
    groups = [task.group for task in VTAB_TASKS.values()]
    assert [groups.count(g) for g in ('natural', 'specialized', 'structured')] == [7, 4, 8]
    assert len({task.title for task in VTAB_TASKS.values()}) == 19
    # Sums of the published test sets' sizes, group by group.
    assert sum(t.num_test for t in VTAB_TASKS.values() if t.group == 'natural') == 75564
    assert sum(t.num_test for t in VTAB_TASKS.values() if t.group == 'specialized') == 87138


@pytest.fixture
def vtab(tmp_path):
    folder = tmp_path / 'kitti'
    splits = {'train800': 800, 'val200': 200, 'test': 711}
    for split, count in splits.items():
        lines = []
        for i in range(count):
            path = folder / 'images' / f'{split}_{i}.jpg'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            lines.append(f'images/{path.name} {i % 4}')
        (folder / f'{split}.txt').write_text('\n'.join(lines) + '\n')
    both = (folder / 'train800.txt').read_text() + (folder / 'val200.txt').read_text()
    (folder / 'train800val200.txt').write_text(both)
    return tmp_path


def test_every_split_of_a_task(vtab):
    counts = {'train800': 800, 'val200': 200, 'train800val200': 1000, 'test': 711}
    for split, count in counts.items():
        data = VTAB1K('kitti', split, data_root=str(vtab))
        assert len(data) == count and data[5]['gt_label'] == 5 % 4
        assert data[0]['img_path'].startswith(str(vtab / 'kitti' / 'images'))


def test_a_task_that_is_not_whole(vtab):
    path = vtab / 'kitti' / 'test.txt'
    path.write_text(''.join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match='710 images, expected 711'):
        VTAB1K('kitti', 'test', data_root=str(vtab))
    assert len(VTAB1K('kitti', 'test', data_root=str(vtab), official_counts=False)) == 710


def test_labels_of_another_task(vtab):
    (vtab / 'kitti').rename(vtab / 'patch_camelyon')
    with pytest.raises(InputError, match='label 2, expected 0 to 1'):
        VTAB1K('patch_camelyon', 'train800', data_root=str(vtab))


@pytest.mark.parametrize(('task', 'split'), [('mnist', 'test'), ('kitti', 'train'), ('', 'test')])
def test_names(task, split):
    with pytest.raises(ValueError, match='expected one of'):
        VTAB1K(task, split)
