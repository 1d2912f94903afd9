"""Folders of images and masks as people have them, and all that can be wrong with them."""

import json
import struct
import zlib

import cv2
import numpy as np
import pytest
from mmseg.registry import DATASETS
from PIL import Image

from lspt_mm.converters import masks
from lspt_mm.converters.mask_classes import MaskClass, read_classes
from lspt_mm.converters.masks import prepare_masks
from lspt_mm.errors import InputError

RED, GREEN, BLACK = (255, 0, 0), (0, 200, 0), (0, 0, 0)
COLOURS = np.array([BLACK, RED, GREEN], np.uint8)


def photo(path, height=8, width=12, seed=0, exif=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(pixels)
    if exif:
        data = image.getexif()
        data[0x0112] = exif
        image.save(path, exif=data)
    else:
        image.save(path)


def numbers(seed=0, height=8, width=12, classes=3):
    """(H, W) with every class in it."""
    label = np.random.default_rng(seed).integers(0, classes, (height, width)).astype(np.uint8)
    label.flat[:classes] = range(classes)
    return label


def mask(path, content, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = content if isinstance(content, Image.Image) else Image.fromarray(content)
    image.save(path, **options)


@pytest.fixture
def folders(tmp_path):
    """Six photos; their masks are the test's."""
    for i in range(6):
        photo(tmp_path / f'images/p{i}.jpg', seed=i)
    return tmp_path


def write_masks(root, form=lambda label: label, suffix='.png', **options):
    for i in range(6):
        mask(root / f'masks/p{i}{suffix}', form(numbers(i)), **options)


def prepare(root, **options):
    return prepare_masks(root / 'images', root / 'masks', root / 'data', **options)


def written(root, i):
    (path,) = (root / 'data/masks').glob(f'*/p{i}.png')
    return np.array(Image.open(path))


def with_palette(label):
    image = Image.fromarray(label)
    image.putpalette([*COLOURS.ravel().tolist(), *[9] * 759])
    return image


# ---- what masks may be ------------------------------------------------------------------------


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32])
def test_numbers(folders, dtype):
    suffix = '.tif' if dtype is np.int32 else '.png'
    write_masks(folders, lambda label: label.astype(dtype), suffix)
    about = prepare(folders).about
    assert about['classes'] == ['class_0', 'class_1', 'class_2'] and about['masks'] == 'indices'
    assert about['images'] == {'train': 5, 'val': 1}
    assert all(np.array_equal(written(folders, i), numbers(i)) for i in range(6))


def test_255_is_ignored_beside_consecutive_numbers_and_told(folders):
    def form(label):
        label[2:] = np.minimum(label[2:], 1)
        label[label == 2] = 255
        return label

    write_masks(folders, form)
    found = prepare(folders)
    assert found.about['classes'] == ['class_0', 'class_1']
    assert 'ignored (255)' in found.table
    assert np.array_equal(written(folders, 2), form(numbers(2)))
    # A mask of it and 0 may be black and white.
    write_masks(folders, form)
    mask(folders / 'masks/p4.png', (numbers(4) > 0).astype(np.uint8) * 255)
    for labels in (None, 'indices'):
        with pytest.raises(InputError, match='p4.png: has 0 and 255 alone'):
            prepare(folders, labels=labels)
    prepare(folders, labels='indices', ignore=['255'])
    assert (written(folders, 4)[numbers(4) > 0] == 255).all()


@pytest.mark.parametrize('values', [(7, 33, 255), (0, 128, 255), (1, 2, 3), (0, 85, 170)])
def test_numbers_with_gaps_are_classes_where_it_is_said(folders, values):
    table = np.array(values, np.uint8)
    write_masks(folders, lambda label: table[label])
    with pytest.raises(InputError, match='ambiguous. Pass --labels indices'):
        prepare(folders)
    about = prepare(folders, labels='indices').about
    assert about['classes'] == [f'class_{value}' for value in values]  # 255 is one of them
    assert np.array_equal(written(folders, 2), numbers(2))
    about = prepare(folders, labels='indices', ignore=[str(values[2])], overwrite=True).about
    assert about['classes'] == [f'class_{value}' for value in values[:2]]
    assert np.array_equal(written(folders, 2), np.array([0, 1, 255])[numbers(2)])


def test_grey_saved_as_colour(folders):
    write_masks(folders, lambda label: np.repeat(label[..., None], 3, 2))
    prepare(folders)
    assert np.array_equal(written(folders, 1), numbers(1))


def test_names_of_numbers(folders):
    (folders / 'classes.txt').write_text('# mine\nsky\nroad and kerb\n\ntree\n')
    write_masks(folders)
    about = prepare(folders, classes=folders / 'classes.txt').about
    assert about['classes'] == ['sky', 'road and kerb', 'tree']


def test_colours_by_a_file(folders):
    (folders / 'classes.txt').write_text('tree 0 200 0\nvoid 0 0 0\ncar 255 0 0\n')
    write_masks(folders, lambda label: COLOURS[label])
    about = prepare(folders, classes=folders / 'classes.txt', ignore=['void']).about
    assert about['classes'] == ['tree', 'car'] and about['palette'] == [[0, 200, 0], [255, 0, 0]]
    assert np.array_equal(written(folders, 0), np.array([255, 1, 0])[numbers(0)])


@pytest.mark.parametrize('form', ['RGB', 'RGBA'])
def test_colours_found(large, form):
    write_masks(large, lambda label: Image.fromarray(COLOURS[blocks(label)]).convert(form))
    about = prepare(large, ignore=['#000000']).about
    assert about['classes'] == ['color_00c800', 'color_ff0000']
    assert np.array_equal(written(large, 0), np.array([255, 1, 0])[blocks(numbers(0))])


@pytest.mark.parametrize('odd', ['one pixel', 'resized'])
def test_colours_of_smoothed_edges_are_no_classes(large, odd):
    write_masks(large, lambda label: COLOURS[blocks(label)])
    path = large / 'masks/p3.png'
    image = Image.open(path)
    if odd == 'one pixel':
        image.putpixel((5, 2), (254, 0, 0))
    else:
        image = image.resize((48, 32), Image.Resampling.BILINEAR).resize(image.size)
    image.save(path)
    said = 'p3.png: #fe0000 .1 pixel, the first at x=5, y=2' if odd == 'one pixel' else 'p3.png: #'
    with pytest.raises(InputError, match=f'{said}.*fills no 3 x 3 pixels'):
        prepare(large)
    if odd == 'one pixel':  # as it was asked
        assert len(prepare(large, labels='colors').about['classes']) == 4


def test_thin_contours_may_be_ignored(large):
    write_masks(large, lambda label: COLOURS[blocks(label)])
    for i in range(6):
        path = large / f'masks/p{i}.png'
        pixels = np.array(Image.open(path))
        pixels[10] = 255
        Image.fromarray(pixels).save(path)
    with pytest.raises(InputError, match='p0.png: #ffffff .96 pixels.* fills no 3 x 3'):
        prepare(large)
    assert len(prepare(large, ignore=['255,255,255']).about['classes']) == 3


def test_blurred_black_and_white_is_asked_about(folders):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for i in range(6):
        photo(folders / f'images/p{i}.jpg', 16, 16, seed=i)
        mask(folders / f'masks/p{i}.png', grey)
    with pytest.raises(InputError, match='ambiguous'):
        prepare(folders)
    with pytest.raises(InputError, match='p0.png: .* the first at x=.* smoothed edges'):
        prepare(folders, labels='binary')
    assert len(prepare(folders, labels='indices').about['classes']) == 255


@pytest.mark.parametrize('labels', ['indices', 'colors'])
def test_a_palette_is_what_is_said(folders, labels):
    (folders / 'masks').mkdir(exist_ok=True)
    for i in range(6):
        with_palette(numbers(i)).save(folders / f'masks/p{i}.png')
    with pytest.raises(InputError, match='--labels indices .palette indices., --labels colors'):
        prepare(folders)
    about = prepare(folders, labels=labels).about
    assert about['masks'] == labels
    place = {tuple(colour): i for i, colour in enumerate(about['palette'])}
    expected = np.array([place[tuple(colour)] for colour in COLOURS.tolist()])
    assert np.array_equal(written(folders, 3), expected[numbers(3)])


def test_palettes_that_differ_from_mask_to_mask(folders):
    """A program that numbers colours as it meets them."""
    (folders / 'masks').mkdir()
    for i in range(6):
        order = np.array([0, 1, 2]) if i % 2 else np.array([2, 0, 1])
        image = Image.fromarray(np.argsort(order).astype(np.uint8)[numbers(i)])
        image.putpalette([*COLOURS[order].ravel().tolist(), *[9] * 759])
        image.save(folders / f'masks/p{i}.png')
    about = prepare(folders, labels='colors').about
    expected = {tuple(c): i for i, c in enumerate(about['palette'])}
    for i in range(6):
        truth = [[expected[tuple(c)] for c in row] for row in COLOURS[numbers(i)].tolist()]
        assert np.array_equal(written(folders, i), truth)


@pytest.mark.parametrize('odd', ['all void', 'grey', 'rgb'])
def test_colours_of_a_file_are_read_from_every_mask(folders, odd):
    """One mask without a palette, or without a colour that the file names."""
    (folders / 'classes.txt').write_text('back 0 0 0\ntree 0 200 0\ncar 255 0 0\n')
    (folders / 'masks').mkdir()
    for i in range(6):
        with_palette(numbers(i)).save(folders / f'masks/p{i}.png')
    last = {
        'all void': Image.new('P', (12, 8), 5), 'grey': Image.new('L', (12, 8), 0),
        'rgb': Image.fromarray(COLOURS[numbers(5)]),
    }[odd]
    if odd == 'all void':
        last.putpalette([*COLOURS.ravel().tolist(), *[9] * 759])
    last.save(folders / 'masks/p5.png')
    found = prepare(folders, classes=folders / 'classes.txt', ignore=['9,9,9'])
    assert found.about['masks'] == 'colors' and found.about['classes'] == ['back', 'tree', 'car']
    for i in range(5):
        assert np.array_equal(written(folders, i), np.array([0, 2, 1])[numbers(i)])
    expected = {'all void': 255, 'grey': 0, 'rgb': np.array([0, 2, 1])[numbers(5)]}[odd]
    assert (written(folders, 5) == expected).all()


@pytest.mark.parametrize('named', [False, True])
def test_palettes_that_differ_are_not_numbers(folders, named):
    """Black and white whose palette says which is which, from mask to mask; swapped colours."""
    for i in range(6):
        label = numbers(i) if named else (numbers(i) > 0).astype(np.uint8)
        order = np.array([0, 2, 1] if named else [1, 0]) if i % 2 else np.arange(3)
        image = Image.fromarray(order[label].astype(np.uint8))
        image.putpalette(COLOURS[order[: 3 if named else 2]].ravel().tolist())
        (folders / 'masks').mkdir(exist_ok=True)
        image.save(folders / f'masks/p{i}.png')
    (folders / 'classes.txt').write_text('back\nred\ngreen\n')
    with pytest.raises(InputError, match='masks with palettes that differ: pass --labels'):
        prepare(folders, classes=folders / 'classes.txt' if named else None)


def test_numbers_beside_colours(folders):
    write_masks(folders, lambda label: COLOURS[label])
    mask(folders / 'masks/p3.png', numbers(3))
    with pytest.raises(InputError, match='p3.png: has numbers, other masks have colours'):
        prepare(folders, labels='colors')


def test_one_bit_is_0_and_1(folders):
    write_masks(folders, lambda label: label > 0)
    (folders / 'classes.txt').write_text('back\nfront\n')
    for labels in (None, 'indices'):
        prepare(folders, classes=folders / 'classes.txt', labels=labels)
        assert np.array_equal(written(folders, 2), numbers(2) > 0)


def test_black_and_white(folders):
    write_masks(folders, lambda label: ((label > 0) * 255).astype(np.uint8))
    about = prepare(folders).about
    assert about['classes'] == ['background', 'foreground']
    assert np.array_equal(written(folders, 4), (numbers(4) > 0).astype(np.uint8))


@pytest.mark.parametrize('labels', ['binary', 'indices', None])
def test_numbers_of_a_file_count_not_its_order(folders, labels):
    (folders / 'classes.txt').write_text('255 crack\n0 road\n')
    write_masks(folders, lambda label: ((label > 0) * 255).astype(np.uint8))
    about = prepare(folders, classes=folders / 'classes.txt', labels=labels).about
    crack = about['classes'].index('crack')
    assert np.array_equal(written(folders, 2) == crack, numbers(2) > 0)


def test_255_is_not_void_in_silence_where_a_file_has_other_numbers(folders):
    (folders / 'classes.txt').write_text('0 road\n1 crack\n')
    write_masks(folders, lambda label: ((label > 0) * 255).astype(np.uint8))
    with pytest.raises(InputError, match='has 0 and 255 alone'):
        prepare(folders, classes=folders / 'classes.txt')
    about = prepare(folders, classes=folders / 'classes.txt', labels='binary').about
    assert about['classes'] == ['road', 'crack']
    assert np.array_equal(written(folders, 2), numbers(2) > 0)


@pytest.mark.parametrize(('value', 'place'), [(128, (0, 0)), (1, (3, 5)), (254, (7, 11))])
def test_one_other_value_among_black_and_white(folders, value, place):
    write_masks(folders, lambda label: ((label > 0) * 255).astype(np.uint8))
    stray = ((numbers(3) > 0) * 255).astype(np.uint8)
    stray[place] = value
    mask(folders / 'masks/p3.png', stray)
    where = f'1 pixel, the first at x={place[1]}, y={place[0]}'
    said = f'rarest is {value}, such as in p3.png .{where}'
    with pytest.raises(InputError, match='has 0 and 255 alone' if value == 1 else said):
        prepare(folders)
    with pytest.raises(InputError, match=f'p3.png: {value} .{where}'):
        prepare(folders, labels='binary')


@pytest.mark.parametrize('alpha', [0, 128, 254])
@pytest.mark.parametrize('form', ['RGBA', 'LA', 'palette', 'grey'])
def test_transparent_pixels_are_refused(folders, form, alpha):
    """Alpha may be the mask, or mean nothing."""
    (folders / 'masks').mkdir()
    for i in range(6):
        label, options = numbers(i), {}
        covered = np.where(label == 2, alpha, 255).astype(np.uint8)
        if form == 'palette':
            image, options = with_palette(label), {'transparency': bytes([255, 255, alpha])}
        elif form == 'grey':
            image, options = Image.fromarray(label), {'transparency': 2}
        else:
            colours = COLOURS[label] if form == 'RGBA' else label[..., None]
            image = Image.fromarray(np.dstack([colours, covered]).astype(np.uint8), form)
        image.save(folders / f'masks/p{i}.png', **options)
    for labels in (None, 'colors', 'binary', 'indices'):
        with pytest.raises(InputError, match='p0.png: transparent at x=.*flatten'):
            prepare(folders, labels=labels)


@pytest.mark.parametrize('form', ['RGBA', 'LA', 'palette'])
def test_opaque_alpha_is_none(folders, form):
    (folders / 'masks').mkdir()
    for i in range(6):
        label, options = numbers(i), {}
        if form == 'palette':
            image, options = with_palette(label), {'transparency': bytes([255] * 3 + [0])}
        else:
            colours = COLOURS[label] if form == 'RGBA' else label[..., None]
            colours = np.dstack([colours, np.full_like(label, 255)])
            image = Image.fromarray(colours, form)
        image.save(folders / f'masks/p{i}.png', **options)
    prepare(folders, labels='indices' if form == 'LA' else 'colors')
    expected = np.arange(3) if form == 'LA' else np.array([0, 2, 1])
    assert np.array_equal(written(folders, 5), expected[numbers(5)])


def blocks(label):  # of 8, as JPEG has them, moved: edges inside its blocks are blurred
    return np.roll(label.repeat(8, 0).repeat(8, 1), 3, (0, 1))


@pytest.fixture
def large(folders):
    for i in range(6):
        photo(folders / f'images/p{i}.jpg', 64, 96, seed=i)
    return folders


@pytest.mark.parametrize(
    ('suffix', 'options'), [('.jpg', {'quality': 95}), ('.webp', {'quality': 90}), ('.jp2', {})]
)
def test_formats_that_change_values(large, suffix, options):
    write_masks(large, lambda label: blocks((label > 0).astype(np.uint8) * 255), suffix, **options)
    for labels in (None, 'indices', 'colors'):
        with pytest.raises(InputError, match='a lossy format'):
            prepare(large, labels=labels)
    assert not (large / 'data').exists()
    prepare(large, labels='binary')
    assert (written(large, 0) == blocks(numbers(0) > 0)).mean() > 0.95


# ---- what cannot be read exactly is refused by name -------------------------------------------


def save_pages(path, label):
    images = [Image.fromarray(label), Image.fromarray(label)]
    images[0].save(path, save_all=True, append_images=images[1:])


def save_deep_colours(path, label):
    cv2.imwrite(str(path), COLOURS[label].astype(np.uint16) * 257)


def save_fractions(path, label):
    Image.fromarray(label.astype(np.float32) + np.float32(0.5)).save(path)


def save_cmyk(path, label):
    Image.fromarray(COLOURS[label]).convert('CMYK').save(path)


def save_stretched(path, label):
    path.write_bytes(b'P5 12 8 2 ' + label.tobytes())


def save_two_bits(path, label):
    """A grey PNG of 2 bits, which Pillow spreads over 0 to 255; written by hand."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', check)

    height, width = label.shape
    four = label.reshape(height, -1, 4)
    rows = (four << np.array([6, 4, 2, 0], np.uint8)).sum(-1).astype(np.uint8)
    lines = b''.join(b'\0' + row.tobytes() for row in rows)
    head = struct.pack('>IIBBBBB', width, height, 2, 0, 0, 0, 0)
    path.write_bytes(b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head)
                     + chunk(b'IDAT', zlib.compress(lines)) + chunk(b'IEND', b''))


def save_inverted(path, label):
    """White is 0: Pillow turns the values round."""
    Image.fromarray(label).save(path, tiffinfo={262: 0})


def save_signed(path, label):
    Image.fromarray(label).save(path, tiffinfo={339: 2})


@pytest.mark.parametrize(
    ('save', 'suffix', 'said'),
    [
        (save_pages, '.tif', 'has 2 pages, expected one'),
        (save_deep_colours, '.png', '16 bits a channel'),
        (save_deep_colours, '.tif', '16 bits a channel|cannot be read'),
        (save_fractions, '.tif', '0.5 at x=.*; expected whole numbers'),
        (save_cmyk, '.tif', 'of mode CMYK'),
        (save_stretched, '.pgm', 'are not read exactly'),
        (save_two_bits, '.png', 'grey values stored as L;2 are not read exactly'),
        (save_inverted, '.tif', 'grey values stored as L;I are not read exactly'),
        (save_signed, '.tif', 'signed numbers of 8 bits are not read exactly'),
    ],
)
def test_refused_by_name(folders, save, suffix, said):
    write_masks(folders)
    (folders / 'masks/p2.png').unlink()
    save(folders / f'masks/p2{suffix}', numbers(2))
    for labels in (None, 'indices', 'colors'):
        with pytest.raises(InputError, match=f'p2{suffix}.*({said})'):
            prepare(folders, labels=labels)
    assert not (folders / 'data').exists()


@pytest.mark.parametrize('dtype', [np.float32, np.int32, np.uint16])
def test_whole_numbers_of_any_type_are_read_exactly(folders, dtype):
    write_masks(folders, lambda label: (label.astype(int) * 300).astype(dtype), '.tif')
    about = prepare(folders, labels='indices').about
    assert about['classes'] == ['class_0', 'class_300', 'class_600']
    assert np.array_equal(written(folders, 1), numbers(1))


@pytest.mark.parametrize('value', [-1, -9999, -32768])
def test_negative_numbers_are_no_classes(folders, value):
    def form(label):
        return np.where(label == 2, value, label.astype(int)).astype(np.int32)

    write_masks(folders, form, '.tif')
    with pytest.raises(InputError, match=f'--ignore={value}'):
        prepare(folders, labels='indices')
    assert prepare(folders, ignore=[str(value)]).about['masks'] == 'binary'
    about = prepare(folders, labels='indices', ignore=[str(value)], overwrite=True).about
    assert about['classes'] == ['class_0', 'class_1']
    assert np.array_equal(written(folders, 4), np.array([0, 1, 255])[numbers(4)])


# ---- what is wrong is told at once ------------------------------------------------------------


def test_everything_at_once(folders):
    (folders / 'classes.txt').write_text('a\nb\nc\n')
    write_masks(folders)
    (folders / 'masks/p0.png').unlink()
    mask(folders / 'masks/alone.png', numbers())
    mask(folders / 'masks/p1.png', numbers(height=9))
    mask(folders / 'masks/p2.png', numbers() + 7)
    (folders / 'images/p3.jpg').write_bytes((folders / 'images/p3.jpg').read_bytes()[:300])
    (folders / 'masks/p4.png').write_text('no image')
    photo(folders / 'images/p5.png')
    with pytest.raises(InputError) as error:
        prepare(folders, classes=folders / 'classes.txt')
    for told in ('no mask for p0.jpg', 'no image for alone.png', 'p1.png (12x9, its image 12x8)',
                 'p2.png: ', 'p3.jpg', 'p4.png: cannot be read as a mask',
                 'p5.jpg and p5.png of one name'):
        assert told in str(error.value), (told, str(error.value))
    assert not (folders / 'data').exists()


def test_what_has_no_counterpart_can_be_left_out(folders):
    write_masks(folders)
    (folders / 'masks/p0.png').unlink()
    assert sum(prepare(folders, skip_unpaired=True).about['images'].values()) == 5


def test_suffixes_are_guessed_and_told(folders):
    write_masks(folders, suffix='_mask.png')
    with pytest.raises(InputError, match='--mask-suffix=_mask'):
        prepare(folders)
    prepare(folders, mask_suffix='_mask')
    assert np.array_equal(written(folders, 0), numbers(0))


@pytest.mark.parametrize('suffix', ['', '_mask'])
def test_one_folder_for_both(folders, suffix):
    for i in range(6):
        mask(folders / f'images/p{i}{suffix}.png', numbers(i))
    found = prepare_masks(
        folders / 'images', folders / 'images', folders / 'data', mask_suffix=suffix
    )
    assert found.about['images'] == {'train': 5, 'val': 1}


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        ({'ignore': ['sky']}, '--ignore sky is no class, .* read as indices: expected a number'),
        ({'ignore': ['0,0,0']}, '--ignore 0,0,0 is a colour, the masks are read as indices'),
        ({'val_share': 1.0}, '--val-share 1.0'),
        ({'labels': 'polygons'}, '--labels polygons'),
        ({'mask_suffix': '_x'}, 'holds no image file of the expected name'),
    ],
)
def test_options_that_are_none(folders, options, said):
    write_masks(folders)
    with pytest.raises(InputError, match=said):
        prepare(folders, **options)


def test_where_nothing_may_be_written(folders):
    write_masks(folders)
    with pytest.raises(InputError, match='name a folder outside'):
        prepare_masks(folders / 'images', folders / 'masks', folders / 'images/data')
    (folders / 'data/masks').mkdir(parents=True)
    with pytest.raises(InputError, match='not written by this command'):
        prepare(folders)


def test_other_classes_do_not_take_the_place_of_earlier_ones(folders):
    write_masks(folders, lambda label: COLOURS[label])
    prepare(folders, labels='colors')
    names = folders / 'classes.txt'
    names.write_text('sky 0 0 0\ntree 255 0 0\nroad 0 200 0\n')
    with pytest.raises(InputError, match='prepared before, with 3 classes.*sky, tree, road'):
        prepare(folders, classes=names)
    prepare(folders, labels='colors')  # the same again
    assert prepare(folders, classes=names, overwrite=True).about['classes'][0] == 'sky'
    prepare(folders, classes=names, seed=5)


def test_white_masks_are_no_two_classes(folders):
    write_masks(folders, lambda label: np.full_like(label, 255))
    with pytest.raises(InputError, match='ambiguous'):
        prepare(folders)


def test_one_class_is_none(folders):
    write_masks(folders, lambda label: label * 0 + 3)
    with pytest.raises(InputError, match='only one class'):
        prepare(folders, labels='indices')


# ---- EXIF -------------------------------------------------------------------------------------


@pytest.mark.parametrize('turn', range(2, 9))
@pytest.mark.parametrize('drawn', ['shown', 'stored'])
def test_masks_of_turned_photos(tmp_path, turn, drawn):
    """The photo as the loader gives it lies under the mask, whatever that was drawn on."""
    import mmcv

    # Left half dark, right half bright, as stored; the mask says which is which.
    bright = np.zeros((40, 64), np.uint8)
    bright[:, 32:] = 1
    bright[:10] = 0
    for i in range(2):
        path = tmp_path / f'images/p{i}.jpg'
        path.parent.mkdir(exist_ok=True)
        image = Image.fromarray((bright * 200 + 20).repeat(3).reshape(40, 64, 3))
        data = image.getexif()
        data[0x0112] = turn
        image.save(path, exif=data)
        label = Image.fromarray(bright)
        if drawn == 'shown':
            from PIL import ImageOps

            label.getexif()[0x0112] = turn
            label = ImageOps.exif_transpose(label)
        mask(tmp_path / f'masks/p{i}.png', np.array(label))
    told = prepare(tmp_path, exif=drawn if turn < 5 else None).remarks
    seen = mmcv.imread(str(tmp_path / 'images/p0.jpg'))[..., 0] > 120
    assert (seen == written(tmp_path, 0)).mean() > 0.99
    if turn < 5:
        with pytest.raises(InputError, match='--exif shown.*--exif stored'):
            prepare(tmp_path)
    elif drawn == 'stored':
        assert any('rotated by the EXIF data' in line for line in told)


# ---- the split, and what is written -----------------------------------------------------------


def test_the_split_is_seeded_and_leaves_each_class_an_image(tmp_path):
    for i in range(20):
        photo(tmp_path / f'images/p{i:02d}.png', seed=i)
        label = np.full((8, 12), i % 2, np.uint8)
        if i == 7:
            label[:] = 2  # a class of one image
        mask(tmp_path / f'masks/p{i:02d}.png', label)
    splits = []
    for seed in range(8):
        prepare(tmp_path, seed=seed, val_share=0.25, test_share=0.1)
        lists = {part: json.loads((tmp_path / f'data/{part}.json').read_text())
                 for part in ('train', 'val', 'test')}
        assert [len(part) for part in lists.values()] == [13, 5, 2]
        assert len(set().union(*lists.values())) == 20
        assert 'p07.png' in lists['train']
        splits.append(lists)
    prepare(tmp_path, seed=0, val_share=0.25, test_share=0.1)
    assert json.loads((tmp_path / 'data/val.json').read_text()) == splits[0]['val']
    assert len({tuple(split['val']) for split in splits}) > 4
    # Nothing of an earlier split is left.
    prepare(tmp_path)
    assert not (tmp_path / 'data/test.json').exists()
    assert len(list((tmp_path / 'data/masks').rglob('*.png'))) == 20


def test_folders_that_are_the_split(tmp_path):
    for i, part in enumerate(['train', 'train', 'valid', 'test']):
        photo(tmp_path / f'images/{part}/p{i}.png', seed=i)
        mask(tmp_path / f'masks/{part}/p{i}.png', numbers(i))
    about = prepare(tmp_path).about
    assert about['images'] == {'train': 2, 'val': 1, 'test': 1} and about['split'] == 'folders'


def test_what_is_missing_from_a_split_is_remarked(folders):
    write_masks(folders, lambda label: np.minimum(label, 1))
    mask(folders / 'masks/p0.png', numbers(0))
    remarks = prepare(folders).remarks
    assert any('val: no pixel of class_2' in line for line in remarks)


def test_train_and_test_without_val(tmp_path):
    for i in range(8):
        part = 'train' if i < 6 else 'test'
        photo(tmp_path / f'images/{part}/p{i}.png', seed=i)
        mask(tmp_path / f'masks/{part}/p{i}.png', numbers(i))
    about = prepare(tmp_path).about
    assert about['images'] == {'train': 5, 'val': 1, 'test': 2}
    assert about['split'] == 'folders, val ours (seed 0)'
    lists = {part: json.loads((tmp_path / f'data/{part}.json').read_text())
             for part in ('train', 'val', 'test')}
    assert sorted(lists['test']) == ['test/p6.png', 'test/p7.png']
    assert all(name.startswith('train/') for part in ('train', 'val') for name in lists[part])


def test_images_outside_the_folders_of_a_split(tmp_path):
    for name in ('train/a', 'train/b', 'more/c'):
        photo(tmp_path / f'images/{name}.png')
        mask(tmp_path / f'masks/{name}.png', numbers())
    with pytest.raises(InputError, match='more/c.png in none'):
        prepare(tmp_path)


@pytest.mark.parametrize('names', [('images', 'masks'), ('JPEGImages', 'SegmentationClass')])
def test_images_and_masks_below_each_split(tmp_path, names):
    for i, part in enumerate(['train', 'train', 'val']):
        photo(tmp_path / f'all/{part}/{names[0]}/p{i}.png', seed=i)
        mask(tmp_path / f'all/{part}/{names[1]}/p{i}.png', numbers(i))
    about = prepare_masks(tmp_path / 'all', tmp_path / 'all', tmp_path / 'data').about
    assert about['images'] == {'train': 2, 'val': 1} and about['split'] == 'folders'
    assert np.array_equal(np.array(Image.open(tmp_path / 'data/masks/val/val/p2.png')), numbers(2))


def test_names_in_another_unicode_form(folders):
    photo(folders / 'images/u\u0308ber.jpg')
    write_masks(folders)
    mask(folders / 'masks/\u00fcber.png', numbers())
    assert sum(prepare(folders).about['images'].values()) == 7


def test_files_that_are_left_out_are_told(folders):
    write_masks(folders)
    picture = (folders / 'images/p0.jpg').read_bytes()
    for name in ('images/a.txt', 'images/.hidden.jpg', 'images/@eaDir/p0.jpg', 'masks/b.json',
                 'masks/.ipynb_checkpoints/p0.png', 'images/__MACOSX/p1.jpg',
                 'images/Thumbs.db'):
        (folders / name).parent.mkdir(exist_ok=True)
        (folders / name).write_bytes(picture if name.endswith(('jpg', 'png')) else b'text')
    found = prepare(folders)
    assert sum(found.about['images'].values()) == 6
    told = '\n'.join(found.remarks)
    assert 'images: 1 file left out (1 .txt)' in told
    assert 'masks: 1 file left out (1 .json)' in told


@pytest.mark.parametrize('suffix', ['.jfif', '.JPEG', '.jpe', '', '.photo'])
def test_images_by_their_content(folders, suffix):
    for i in range(6):
        (folders / f'images/p{i}.jpg').rename(folders / f'images/p{i}{suffix}')
    write_masks(folders, suffix='.PNG')
    assert sum(prepare(folders).about['images'].values()) == 6


def test_linked_folders_are_followed_once(folders):
    write_masks(folders)
    (folders / 'images').rename(folders / 'real')
    (folders / 'images').mkdir()
    (folders / 'images/more').symlink_to(folders / 'real')
    (folders / 'real/loop').symlink_to(folders / 'images')
    (folders / 'masks').rename(folders / 'm')
    (folders / 'm').rename(folders / 'masks')
    (folders / 'masks/more').mkdir()
    for path in list((folders / 'masks').glob('*.png')):
        path.rename(folders / 'masks/more' / path.name)
    assert sum(prepare(folders).about['images'].values()) == 6


def test_one_image_twice(tmp_path):
    for i, part in enumerate(['train', 'train', 'val']):
        photo(tmp_path / f'images/{part}/p{i}.png', seed=min(i, 1))
        mask(tmp_path / f'masks/{part}/p{i}.png', numbers(min(i, 1)))
    wanted = 'train/p1.png and val/p2.png are one image, in train and in val'
    assert wanted in prepare(tmp_path).remarks
    with pytest.raises(InputError, match=wanted):
        prepare(tmp_path, fail_on_duplicates=True)
    mask(tmp_path / 'masks/val/p2.png', numbers(7))
    assert f'{wanted}, with two masks' in prepare(tmp_path).remarks


def test_remarks_on_what_was_read(folders):
    write_masks(folders, lambda label: np.minimum(label, 1))
    rare = np.minimum(numbers(0), 1)
    rare[0] = 2
    rare[2:] = 255
    for i in range(2):
        mask(folders / f'masks/p{i}.png', rare)
    told = '\n'.join(prepare(folders, labels='indices', ignore=['9']).remarks)
    assert '25 % of the pixels are ignored' in told
    assert 'in fewer than three images: class_2 (2)' in told
    assert '--ignore 9: no mask has it' in told


def test_nothing_but_a_preview_without_consent(folders):
    write_masks(folders)
    seen = []
    assert prepare(folders, confirm=lambda found: seen.append(found.table)) is None
    assert 'class_2' in seen[0]
    assert [path.name for path in (folders / 'data').iterdir()] == ['preview.png']
    with Image.open(folders / 'data/preview.png') as picture:
        assert picture.width > 1000
    prepare(folders, confirm=lambda found: True)
    assert (folders / 'data/train.json').is_file()


def test_the_data_set_reads_it(folders):
    write_masks(folders)
    about = prepare(folders).about
    meta = {key: about[key] for key in ('classes', 'palette')}
    dataset = DATASETS.build(dict(
        type='lspt_mm.MaskFolder', data_root=str(folders / 'data'), ann_file='val.json',
        metainfo=meta, pipeline=[{'type': 'lspt_mm.LoadImage'},
                                 {'type': 'lspt_mm.LoadSegLabels', 'num_classes': 3}],
    ))
    (sample,) = [dataset[i] for i in range(len(dataset))]
    name = sample['img_path'].rsplit('/', 1)[1]
    assert np.array_equal(sample['gt_seg_map'], numbers(int(name[1])))
    assert dataset.metainfo['classes'] == about['classes']


@pytest.mark.parametrize(
    ('content', 'said'),
    [
        ('{', 'not a JSON file'), ('[]', 'expected {"image": "mask"'), ('{}', 'names no image'),
        ('{"../a.jpg": "a.png"}', 'outside the data'), ('{"a.jpg": "a.png"}', 'do not exist'),
    ],
)
def test_lists_that_are_none(folders, content, said):
    write_masks(folders)
    prepare(folders)
    (folders / 'data/val.json').write_text(content)
    with pytest.raises(InputError, match=said):
        DATASETS.build(dict(
            type='lspt_mm.MaskFolder', data_root=str(folders / 'data'), ann_file='val.json'
        ))


# ---- files of classes -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('sky', MaskClass('sky')),
        ('traffic light', MaskClass('traffic light')),
        ('sky 1 2 3', MaskClass('sky', None, (1, 2, 3))),
        ('traffic light, 1, 2, 3', MaskClass('traffic light', None, (1, 2, 3))),
        ('11 sky', MaskClass('sky', 11)),
        ('11\tsky\t1\t2\t3', MaskClass('sky', 11, (1, 2, 3))),
    ],
)
def test_lines(tmp_path, line, expected):
    (tmp_path / 'c.txt').write_text(f'# a comment\n{line}\n')
    assert read_classes(tmp_path / 'c.txt') == [expected]


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        (
            '# label:color_rgb:parts:actions\nback:0,0,0::\ntraffic light:1,2,3::go\n',
            [MaskClass('back', None, (0, 0, 0)), MaskClass('traffic light', None, (1, 2, 3))],
        ),
        (
            '__ignore__\n_background_\ncat\n',
            [MaskClass('__ignore__', 255), MaskClass('_background_', 0), MaskClass('cat', 1)],
        ),
        (
            'Pixel Value, Class\n0, background\n1, crack, deep\n',
            [MaskClass('background', 0), MaskClass('crack', 1)],
        ),
        (
            'name,r,g,b\nAnimal,64,128,64\nRoad, kerb,1,2,3\n'.replace('Road, kerb', 'Road kerb'),
            [MaskClass('Animal', None, (64, 128, 64)), MaskClass('Road kerb', None, (1, 2, 3))],
        ),
        (
            'id;label;red;green;blue\n7;road;1;2;3\n11;wall;4;5;6\n',
            [MaskClass('road', 7, (1, 2, 3)), MaskClass('wall', 11, (4, 5, 6))],
        ),
    ],
    ids=['CVAT', 'LabelMe', 'Roboflow', 'name,r,g,b', 'id;label;red;green;blue'],
)
def test_files_of_other_programs(tmp_path, text, expected):
    (tmp_path / 'c.txt').write_text(text)
    assert read_classes(tmp_path / 'c.txt') == expected


@pytest.mark.parametrize('form', [Image.fromarray, with_palette])
def test_labelmes_numbers(folders, form):
    """``__ignore__`` is -1 in its arrays, 255 in its masks."""
    (folders / 'labels.txt').write_text('__ignore__\n_background_\ncat\n')
    write_masks(folders, lambda label: form(np.array([0, 1, 255], np.uint8)[label]))
    found = prepare(folders, classes=folders / 'labels.txt')
    assert found.about['classes'] == ['_background_', 'cat']
    assert np.array_equal(written(folders, 0), np.array([0, 1, 255])[numbers(0)])


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'names no class'), ('a\na\n', 'name a is given twice'),
        ('a 1 2 3\nb 1 2 3\n', 'colour .* twice'), ('a 1 2 300\n', '0 to 255'),
        ('id,name\nx,a\n', 'titles in the first line'),
        ('a 1 2 3\nb\n', 'some lines have a colour'), ('4 a\n4 b\n', 'value 4 is given twice'),
    ],
)
def test_files_of_classes_that_are_none(tmp_path, text, said):
    (tmp_path / 'c.txt').write_text(text)
    with pytest.raises(InputError, match=said):
        read_classes(tmp_path / 'c.txt')


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('background,0\ncar,2\nroad,1\n', 'each name ends in a number'),
        ('bg 0\ncar 2\nroad 1\n', 'each name ends in a number'),
        ('bg=2\ncar=0\n', 'line 1: .*not a class name'),
        ('0. bg\n1. car\n', 'not a class name'),
        ('2\n1\n0\n', 'not a class name'),
        ('2 255 0 0\n1 0 255 0\n', 'not a class name'),
        ('1 255 0 0 car\n0 0 0 0 bg\n', 'not a class name'),
        ('[\n"car",\n"road"\n]\n', 'not a class name'),
        ('{\n"bg": 0,\n"car": 1\n}\n', 'not a class name'),
        ('names:\n- bg\n- car\n', 'line 2: .*not a class name'),
        ('// classes\nbg\ncar\n', 'not a class name'),
        ('bg #000000\ncar #ff0000\n', 'not a class name'),
        ('item {\n  id: 1\n}\n', 'not a class name'),
        ('name,value\n1,0\n0,1\n', 'not a class name'),
    ],
)
def test_class_files_that_are_not_understood(tmp_path, text, said):
    (tmp_path / 'c').write_text(text)
    with pytest.raises(InputError, match=said):
        read_classes(tmp_path / 'c')


@pytest.mark.parametrize(
    ('text', 'names', 'values'),
    [
        ('# mine\n__ignore__\nback\ncat\n', ['__ignore__', 'back', 'cat'], [255, 0, 1]),
        ('__ignore__,\n_background_,\n', ['__ignore__', '_background_'], [255, 0]),
        ('name\nbg\ncar\n', ['bg', 'car'], [None, None]),
        ('id,name,category\n0,bg,none\n2,car,vehicle\n', ['bg', 'car'], [0, 2]),
        ('name,category\nbg,void\ncar,vehicle\n', ['bg', 'car'], [None, None]),
        ('class 1\nroad (wet)\n', ['class 1', 'road (wet)'], [None, None]),
    ],
)
def test_class_files_with_titles_and_comments(tmp_path, text, names, values):
    (tmp_path / 'c').write_text(text)
    found = read_classes(tmp_path / 'c')
    assert [one.name for one in found] == names and [one.value for one in found] == values


@pytest.mark.parametrize('names', [('train2017', 'val2017'), ('train_set', 'test_set'),
                                   ('site/train', 'site/test')])
def test_folders_that_look_like_a_split(tmp_path, names):
    for i, name in enumerate(names):
        for j in range(3):
            photo(tmp_path / f'images/{name}/p{i}{j}.jpg', seed=3 * i + j)
            mask(tmp_path / f'masks/{name}/p{i}{j}.png', numbers(j))
    with pytest.raises(InputError, match='in folders that look like a split'):
        prepare(tmp_path)


def test_what_is_left_out_is_told(folders):
    write_masks(folders)
    (folders / 'masks/p0.png').unlink()
    found = prepare(folders, skip_unpaired=True)
    assert any('1 images without mask: p0.jpg' in remark for remark in found.remarks)


@pytest.mark.parametrize('size', [(1, 3000), (3000, 1)])
def test_a_preview_of_any_form(tmp_path, size):
    for i in range(3):
        photo(tmp_path / f'images/p{i}.png', *size, seed=i)
        mask(tmp_path / f'masks/p{i}.png', np.arange(3000, dtype=np.uint8).reshape(size) % 2)
    prepare(tmp_path)
    assert Image.open(tmp_path / 'data/preview.png').size[0] > 1280


@pytest.mark.parametrize('form', [np.float32, np.int32])
def test_photos_of_32_bits_are_refused(folders, form):
    write_masks(folders)
    (folders / 'images/p1.jpg').unlink()
    Image.fromarray(np.full((8, 12), 300).astype(form)).save(folders / 'images/p1.tif')
    with pytest.raises(InputError, match='p1.tif: numbers of 32 bits'):
        prepare(folders)


def test_jpeg_inside_a_tiff(large):
    write_masks(large, lambda label: blocks((label > 0).astype(np.uint8) * 255), '.tif',
                compression='jpeg')
    with pytest.raises(InputError, match='a lossy format'):
        prepare(large, labels='indices')
    prepare(large, labels='binary')


def test_the_users_class_file_is_not_replaced(folders):
    write_masks(folders)
    (folders / 'data').mkdir()
    names = folders / 'data/classes.txt'
    names.write_text('sky\ntree\nroad\n')
    with pytest.raises(InputError, match='classes.txt: this command writes a file of that name'):
        prepare(folders, classes=names)
    assert names.read_text() == 'sky\ntree\nroad\n'


@pytest.mark.parametrize('ignore', [[1], 1, '1'])
def test_ignored_numbers_of_any_type(folders, ignore):
    write_masks(folders)
    found = prepare(folders, ignore=ignore, labels='indices')
    assert found.about['classes'] == ['class_0', 'class_2']


def test_a_write_that_fails_leaves_no_lists_of_other_masks(folders, monkeypatch):
    write_masks(folders)
    prepare(folders)

    def fail(*given):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(masks, 'write_lists', fail)
    with pytest.raises(OSError, match='No space'):
        prepare(folders, ignore=[1], labels='indices', overwrite=True)
    assert not list((folders / 'data').glob('t*.json'))
