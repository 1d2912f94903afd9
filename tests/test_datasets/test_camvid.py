"""CamVid's splits: whole and without overlap, the end of each drive held out."""

from pathlib import Path

import pytest
from miniatures import write_camvid

from lspt_mm.datasets import CamVidDataset

DRIVES = {'0001TP': 20, '0006R0': 26, '0016E5': 4, 'Seq05VD': 1}


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('camvid')
    write_camvid(folder, DRIVES)
    write_camvid(folder, {'0016E5': 3}, 'validation')
    return write_camvid(folder, {'Seq05VD': 2}, 'test')


def names(root, split, **kwargs):
    dataset = CamVidDataset(split=split, data_root=str(root), **kwargs)
    return [Path(dataset.get_data_info(i)['img_path']).stem for i in range(len(dataset))]


def frames(drive, numbers):
    return [f'{drive}_{i:05d}' for i in numbers]


def test_whole_splits(root):
    assert names(root, 'training') == [f for d, n in DRIVES.items() for f in frames(d, range(n))]
    assert names(root, 'validation') == frames('0016E5', range(3))
    assert names(root, 'test') == frames('Seq05VD', range(2))


def test_the_last_tenth_of_each_drive_is_held_out(root):
    # 20 -> 2, 26 -> 3 (rounded), 4 -> 1 (at least one), 1 -> 1
    held_out = (
        frames('0001TP', range(18, 20)) + frames('0006R0', range(23, 26))
        + frames('0016E5', [3]) + frames('Seq05VD', [0])
    )
    assert names(root, 'training-select') == held_out


def test_fit_and_select_are_training_in_two_parts(root):
    fit, select = names(root, 'training-fit'), names(root, 'training-select')
    assert not set(fit) & set(select)
    assert sorted(fit + select) == names(root, 'training')


def test_labels_belong_to_their_images(root):
    for split in ('training-fit', 'validation'):
        dataset = CamVidDataset(split=split, data_root=str(root))
        for i in range(len(dataset)):
            info = dataset.get_data_info(i)
            image, label = Path(info['img_path']), Path(info['seg_map_path'])
            assert image.is_file() and label.is_file()
            assert (image.stem, image.parent.name) == (label.stem, label.parent.name)
            assert not info['reduce_zero_label']


@pytest.mark.parametrize('split', ['train', 'val', 'training-val', '', None, 'Training'])
def test_other_splits_are_refused(root, split):
    with pytest.raises(ValueError, match='training-select'):
        CamVidDataset(split=split, data_root=str(root))


def test_eleven_classes_each_with_a_colour():
    assert len(CamVidDataset.METAINFO['classes']) == len(CamVidDataset.METAINFO['palette']) == 11


def test_other_folders_can_be_given(root):
    prefix = {'img_path': 'images/test', 'seg_map_path': 'annotations/test'}
    assert names(root, 'training', data_prefix=prefix) == frames('Seq05VD', range(2))

