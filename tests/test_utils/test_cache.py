"""Digests of samples' files."""

import hashlib
import os

import pytest

from lspt_mm.utils.cache import digest_samples


def digest(**sample):
    found = hashlib.sha256()
    digest_samples(found, [sample])
    return found.hexdigest()


@pytest.mark.parametrize('key', ['img_path', 'seg_map_path'])
def test_relative_paths_are_those_of_the_working_folder(key, tmp_path, monkeypatch):
    found = []
    for name in 'ab':
        folder = tmp_path / name
        folder.mkdir()
        (folder / '0.png').write_text(name)
        os.utime(folder / '0.png', (0, 0))  # equal sizes and times
        monkeypatch.chdir(folder)
        found.append(digest(**{key: '0.png'}))
        assert found[-1] == digest(**{key: str(folder / '0.png')})
    assert found[0] != found[1]


def test_a_changed_file_is_another(tmp_path):
    path = tmp_path / '0.png'
    path.write_text('a')
    first = digest(img_path=str(path))
    path.write_text('ab')
    assert digest(img_path=str(path)) != first


def test_labels_count():
    assert digest(gt_label=1) != digest(gt_label=2)
    assert digest(img_path='absent.png') != digest(img_path='other.png')
