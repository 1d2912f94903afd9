"""Data sets of the stack that name their files in their own ways pass the checks before a run."""

import numpy as np
import pytest
from miniatures import save_label
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from lspt_mm.config.preflight import check_data_is_there
from lspt_mm.datasets.verify import check_data
from lspt_mm.errors import InputError

LOADERS = ('train_dataloader',)


@pytest.fixture(autouse=True)
def scope_and_cache(tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path / 'cache'))
    init_default_scope('mmseg')


def config_of(**dataset):
    return Config({'train_dataloader': {'dataset': {'pipeline': [], **dataset}}})


def test_cityscapes_as_it_is_distributed(tmp_path):
    images, labels = (tmp_path / name / 'train/aachen' for name in ('leftImg8bit', 'gtFine'))
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    Image.new('RGB', (8, 4)).save(images / 'aachen_0_leftImg8bit.png')
    for end in ('labelTrainIds', 'labelIds', 'instanceIds', 'color'):
        save_label(labels / f'aachen_0_gtFine_{end}.png', np.zeros((4, 8)))
    cfg = config_of(
        type='CityscapesDataset', data_root=str(tmp_path),
        data_prefix={'img_path': 'leftImg8bit/train', 'seg_map_path': 'gtFine/train'},
    )
    check_data_is_there(cfg, LOADERS)
    assert check_data(cfg, LOADERS).errors == []
    save_label(labels / 'aachen_1_gtFine_labelTrainIds.png', np.zeros((4, 8)))
    with pytest.raises(InputError, match='1 problems.*\n.*aachen_1_gtFine_labelTrainIds.png: a'):
        check_data(cfg, LOADERS)


@pytest.mark.parametrize(('suffix', 'name'), [('.JPG', 'a.JPG'), ('.jpg', 'a.jpg')])
def test_suffixes_are_compared_as_mmseg_does(suffix, name, tmp_path):
    for folder, file in (('images', name), ('masks', 'a.png')):
        (tmp_path / folder).mkdir()
        save_label(tmp_path / folder / 'x.png', np.zeros((4, 8)))
        (tmp_path / folder / 'x.png').rename(tmp_path / folder / file)
    prefix = {'img_path': 'images', 'seg_map_path': 'masks'}
    options = dict(type='BaseSegDataset', data_root=str(tmp_path), data_prefix=prefix)
    check_data_is_there(config_of(**options, img_suffix=suffix), LOADERS)
    with pytest.raises(InputError, match=rf'images holds no images \({suffix.swapcase()}\)'):
        check_data_is_there(config_of(**options, img_suffix=suffix.swapcase()), LOADERS)


def test_images_without_suffix_in_folders_of_classes(tmp_path):
    for name in ('ant', 'bee'):
        (tmp_path / name).mkdir()
        Image.new('RGB', (4, 4)).save(tmp_path / name / '0', format='png')
    cfg = config_of(type='lspt_mm.ImageFolder', data_root=str(tmp_path), data_prefix='')
    check_data_is_there(cfg, LOADERS)
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 2
    for name in ('ant', 'bee'):
        (tmp_path / name / '0').write_text('no image')
    with pytest.raises(InputError, match='holds no images'):
        check_data_is_there(cfg, LOADERS)
