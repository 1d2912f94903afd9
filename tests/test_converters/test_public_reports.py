"""Situations that people reported of other tools; docs/own_data_cases.md names the reports."""

import json

import cv2
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


def masks(root, form, suffix='.png', **options):
    for i in range(5):
        picture = form(label(i))
        picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        picture.save(root / f'masks/p{i}{suffix}', **options)


def prepare(root, **options):
    return prepare_masks(root / 'images', root / 'masks', root / 'data', **options).about


def written(root, i):
    (path,) = (root / 'data/masks').rglob(f'p{i}.png')
    return np.array(Image.open(path))


# ---- masks ------------------------------------------------------------------------------------


def test_opaque_rgba_masks_of_green_on_black(root):
    green = np.array([[0, 0, 0, 255], [0, 255, 0, 255], [0, 255, 0, 255]], np.uint8)
    masks(root, lambda one: green[one])
    assert prepare(root)['classes'] == ['color_000000', 'color_00ff00']
    assert np.array_equal(written(root, 1), label(1) > 0)


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


def test_labelmes_palettes(root):
    """OpenCV reads the palette's colours, such as 128, where the file means numbers."""
    (root / 'labels.txt').write_text('__ignore__\n_background_\ncircle\ntriangle\n')

    def form(one):
        image = Image.fromarray(one, 'P')
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        return image

    masks(root, form)
    assert cv2.imread(str(root / 'masks/p0.png')).max() == 128
    about = prepare(root, classes=root / 'labels.txt')
    assert about['classes'] == ['_background_', 'circle', 'triangle']
    assert np.array_equal(written(root, 0), label(0))


@pytest.mark.parametrize('smooth', [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA])
def test_black_and_white_of_resized_masks(root, smooth):
    def form(one):
        large = ((one > 0) * 255).astype(np.uint8).repeat(2, 0).repeat(2, 1)
        return cv2.resize(large, (32, 24), interpolation=smooth) // 2 * 2 + (one > 5)

    masks(root, lambda one: cv2.GaussianBlur(form(one), (3, 3), 1))
    with pytest.raises(InputError, match='ambiguous|too many'):
        prepare(root)
    with pytest.raises(InputError, match='p0.png: .* the first at x=.* smoothed edges'):
        prepare(root, labels='binary')


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


def test_255_is_the_foreground_where_there_is_no_other(root):
    masks(root, lambda one: ((one > 0) * 255).astype(np.uint8))
    prepare(root)
    assert np.array_equal(written(root, 4), label(4) > 0)


def test_masks_of_16_bits(root):
    masks(root, lambda one: one.astype(np.uint16))
    assert prepare(root)['classes'] == ['class_0', 'class_1', 'class_2']
    assert np.array_equal(written(root, 2), label(2))


@pytest.mark.parametrize('size', [(24, 16), (48, 64), (32, 24)])
def test_masks_of_another_size_than_their_images(root, size):
    masks(root, lambda one: one)
    Image.fromarray(np.zeros(size, np.uint8)).save(root / 'masks/p1.png')
    with pytest.raises(InputError, match=f'p1.png .{size[1]}x{size[0]}, its image 32x24'):
        prepare(root)


@pytest.mark.parametrize(('turn', 'quarter'), [(6, -1), (8, 1), (3, 2)])
def test_masks_drawn_on_the_photo_as_viewers_show_it(root, turn, quarter):
    data = Image.Exif()
    data[0x0112] = turn
    for i in range(5):
        photo(root / f'images/p{i}.jpg', seed=i, exif=data)
    masks(root, lambda one: np.ascontiguousarray(np.rot90(one, quarter)))
    prepare(root, exif='shown' if quarter == 2 else None)
    assert np.array_equal(written(root, 0), np.rot90(label(0), quarter))
    assert read_image(root / 'images/p0.jpg').shape[:2] == written(root, 0).shape


def test_suffixes_in_capitals(root):
    masks(root, lambda one: one, '.PNG', format='PNG')
    for i in range(5):
        (root / f'images/p{i}.jpg').rename(root / f'images/p{i}.JPG')
    assert prepare(root)['images'] == {'train': 4, 'val': 1}


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


@pytest.mark.parametrize('broken', [b'', b'<html>not found</html>', None])
def test_files_that_are_no_images(broken, tmp_path):
    root = folders(tmp_path / 'x')
    path = root / 'train/bee/2.jpg'
    path.write_bytes(path.read_bytes()[:400] if broken is None else broken)
    with pytest.raises(InputError, match='train/bee/2.jpg cannot be read as an image'):
        prepare_image_folder(root, tmp_path / 'd')


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


def test_grey_photos_among_coloured_ones(tmp_path):
    root = folders(tmp_path / 'x')
    grey = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
    Image.fromarray(grey).save(root / 'train/ant/0.png')
    prepare_image_folder(root, tmp_path / 'd')
    assert np.array_equal(read_image(root / 'train/ant/0.png'), grey[..., None].repeat(3, -1))
