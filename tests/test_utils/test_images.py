"""Which files are images, in every place that looks for some; whether one can be decoded."""

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from lspt_mm.apis.predict import images_of
from lspt_mm.config.preflight import check_data_is_there
from lspt_mm.converters import prepare_image_folder
from lspt_mm.datasets import ListedImages
from lspt_mm.utils.images import check_image, list_images, spread_colours

SUFFIXES = ['.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff', '.ppm', '.pgm']


@pytest.mark.parametrize('suffix', SUFFIXES)
def test_all_steps_agree_on_what_an_image_is(suffix, tmp_path):
    for split in ('train', 'val', 'test'):
        for name in ('ant', 'bee'):
            folder = tmp_path / 'photos' / split / name
            folder.mkdir(parents=True)
            Image.new('L', (4, 4)).save(folder / f'0{suffix}')
    data = tmp_path / 'data'
    prepare_image_folder(tmp_path / 'photos', data)
    assert len(ListedImages('train.json', num_classes=2, data_root=str(data))) == 2
    init_default_scope('mmpretrain')
    dataset = dict(
        type='lspt_mm.ListedImages', data_root=str(data), data_prefix='', num_classes=2,
        ann_file='train.json',
    )
    check_data_is_there(Config({'train_dataloader': {'dataset': dataset}}), ('train_dataloader',))
    assert len(images_of([data])) == 6


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    for name in ('a.JPG', '.b.jpg', 'notes.txt', 'inside/c.png', '.cache/d.png'):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert list_images(tmp_path).images == [tmp_path / 'a.JPG', tmp_path / 'inside' / 'c.png']


def test_size_as_exif_has_it(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new('RGB', (30, 20)).save(tmp_path / 'a.jpg', exif=exif)
    assert check_image(tmp_path / 'a.jpg') == (20, 30)
    Image.new('RGB', (30, 20)).save(tmp_path / 'b.jpg')
    assert check_image(tmp_path / 'b.jpg') == (30, 20)


def test_colours_of_classes_differ():
    colours = np.array(spread_colours(254))
    assert len(np.unique(colours, axis=0)) == 254
    assert colours.min() >= 0 and colours.max() <= 255
