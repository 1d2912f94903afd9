"""Reports of other tools in docs/own_data_cases.md, where no other test has the situation."""

import json

import numpy as np
import pytest
from PIL import Image

from lspt_mm.converters import prepare_image_folder
from lspt_mm.converters.masks import prepare_masks
from lspt_mm.errors import InputError
from lspt_mm.utils.images import read_image

SIZE = (24, 32)


def label(seed, classes=3):
    """(H, W) with every class in it."""
    found = np.random.default_rng(seed).integers(0, classes, SIZE).astype(np.uint8)
    found.flat[:classes] = range(classes)
    return found


def photo(path, size=SIZE, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def root(tmp_path):
    for i in range(5):
        photo(tmp_path / f'images/p{i}.jpg', seed=i)
    (tmp_path / 'masks').mkdir()
    return tmp_path


def masks(root, form):
    for i in range(5):
        Image.fromarray(form(label(i))).save(root / f'masks/p{i}.png')


def prepare(root, **options):
    return prepare_masks(root / 'images', root / 'masks', root / 'data', **options).about


def written(root, i):
    (path,) = (root / 'data/masks').rglob(f'p{i}.png')
    return np.array(Image.open(path))


# ---- masks ------------------------------------------------------------------------------------


def test_numbers_of_classes_in_the_red_channel_alone(root):
    masks(root, lambda one: np.dstack([one, one * 0, one * 0]))
    assert prepare(root, labels='colors')['masks'] == 'colors'
    assert np.array_equal(written(root, 2), label(2))
    with pytest.raises(InputError, match='is a colour, not one of indices'):
        prepare(root, labels='indices')


def test_a_colour_that_the_file_of_classes_lacks(root):
    (root / 'class_dict.csv').write_text('name,r,g,b\nsky,0,0,0\ntree,9,9,9\nroad,200,0,0\n')
    colours = np.array([[0, 0, 0], [9, 9, 9], [200, 0, 0]], np.uint8)
    masks(root, lambda one: colours[one])
    assert prepare(root, classes=root / 'class_dict.csv')['classes'] == ['sky', 'tree', 'road']
    odd = colours[label(3)]
    odd[4, 7] = 200, 0, 1
    Image.fromarray(odd).save(root / 'masks/p3.png')
    with pytest.raises(InputError, match='p3.png: #c80001 .1 pixel, the first at x=7, y=4'):
        prepare(root, classes=root / 'class_dict.csv')


def test_one_line_for_a_value_of_all_masks(root):
    (root / 'classes.txt').write_text('sky\nroad\n')
    masks(root, lambda one: one)
    with pytest.raises(InputError) as error:
        prepare(root, classes=root / 'classes.txt')
    (line,) = str(error.value).splitlines()
    many = (label(0) == 2).sum()
    where = f'p0.png: 2 ({many} pixels, the first at x=2, y=0), in 5 masks belongs to no class'
    assert where in line and '--ignore=2' in line


@pytest.mark.parametrize('high', [128, 200, 2])
def test_two_values_besides_255(root, high):
    masks(root, lambda one: ((one > 0) * high).astype(np.uint8))
    with pytest.raises(InputError, match='--labels binary'):
        prepare(root)
    assert prepare(root, labels='binary')['classes'] == ['background', 'foreground']
    assert np.array_equal(written(root, 4), label(4) > 0)


@pytest.mark.parametrize('size', [(24, 16), (48, 64), (32, 24)])
def test_masks_of_another_size_than_their_images(root, size):
    masks(root, lambda one: one)
    Image.fromarray(np.zeros(size, np.uint8)).save(root / 'masks/p1.png')
    with pytest.raises(InputError, match=f'p1.png .{size[1]}x{size[0]}, its image 32x24'):
        prepare(root)


# ---- images -----------------------------------------------------------------------------------


def test_other_formats_under_a_jpegs_name(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    for format in ('PNG', 'BMP', 'GIF'):
        Image.fromarray(pixels // 64 * 64).save(tmp_path / f'{format}.jpg', format=format)
    assert np.array_equal(read_image(tmp_path / 'PNG.jpg'), pixels // 64 * 64)
    assert np.array_equal(read_image(tmp_path / 'BMP.jpg'), pixels // 64 * 64)
    assert read_image(tmp_path / 'GIF.jpg').shape == (*SIZE, 3)


def test_exif_data_that_cannot_be_read(tmp_path):
    photo(tmp_path / 'a.jpg', exif=b'Exif\0\0MM\0*\0\0\0\x08\0\x02' + b'\xff' * 40)
    photo(tmp_path / 'b.jpg')
    assert np.array_equal(read_image(tmp_path / 'a.jpg'), read_image(tmp_path / 'b.jpg'))


def test_bytes_after_the_end_of_a_jpeg(tmp_path):
    photo(tmp_path / 'a.jpg')
    photo(tmp_path / 'b.jpg')
    with open(tmp_path / 'a.jpg', 'ab') as file:
        file.write(b'\0' * 245)
    assert np.array_equal(read_image(tmp_path / 'a.jpg'), read_image(tmp_path / 'b.jpg'))


def folders(root, names=('ant', 'bee')):
    for split in ('train', 'test'):
        for i, name in enumerate(names):
            for number in range(4):
                seed = 100 * len(split) + 10 * i + number
                photo(root / split / name / f'{number}.jpg', seed=seed)
    return root


def test_files_that_a_mac_leaves(tmp_path):
    root = folders(tmp_path / 'x')
    (root / 'train/bee/._2.jpg').write_bytes(b'\0\x05\x16\x07')
    (root / 'train/.DS_Store').write_bytes(b'\0')
    (root / '__MACOSX').mkdir()
    prepare_image_folder(root, tmp_path / 'd')
    assert len(json.loads((tmp_path / 'd/train.json').read_text())) == 6


def test_names_of_classes_with_blanks_and_signs(tmp_path):
    names = ('Golden Retriever (dog)', 'Häuser & Türme', "it's", '003.Sooty, Albatross')
    root = folders(tmp_path / 'x', names)
    prepare_image_folder(root, tmp_path / 'd')
    assert json.loads((tmp_path / 'd/about.json').read_text())['classes'] == sorted(names)
