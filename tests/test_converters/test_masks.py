"""Folders of images and masks as people have them, and all that can be wrong with them."""

import json

import numpy as np
import pytest
from mmseg.registry import DATASETS
from PIL import Image

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


def mask(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


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
    assert about['classes'] == ['class_0', 'class_1', 'class_2'] and about['masks'] == 'numbers'
    assert about['images'] == {'train': 5, 'val': 1}
    assert all(np.array_equal(written(folders, i), numbers(i)) for i in range(6))


def test_numbers_with_gaps_and_void(folders):
    table = np.array([7, 33, 255], np.uint8)
    write_masks(folders, lambda label: table[label])
    about = prepare(folders).about
    assert about['classes'] == ['class_7', 'class_33']
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


def test_colours_found(folders):
    write_masks(folders, lambda label: COLOURS[label])
    about = prepare(folders, ignore=['#000000']).about
    assert about['classes'] == ['colour_00c800', 'colour_ff0000']
    assert np.array_equal(written(folders, 0), np.array([255, 1, 0])[numbers(0)])


def test_a_palette_is_numbers_and_its_colours(folders):
    for i in range(6):
        (folders / 'masks').mkdir(exist_ok=True)
        with_palette(numbers(i)).save(folders / f'masks/p{i}.png')
    about = prepare(folders).about
    assert about['palette'] == COLOURS.tolist() and about['masks'] == 'numbers'
    assert np.array_equal(written(folders, 3), numbers(3))


def test_palettes_that_contradict_each_other_are_colours(folders):
    """A program that numbers colours as it meets them."""
    (folders / 'masks').mkdir()
    for i in range(6):
        order = np.array([0, 1, 2]) if i % 2 else np.array([2, 0, 1])
        image = Image.fromarray(np.argsort(order).astype(np.uint8)[numbers(i)])
        image.putpalette([*COLOURS[order].ravel().tolist(), *[9] * 759])
        image.save(folders / f'masks/p{i}.png')
    about = prepare(folders).about
    assert about['masks'] == 'colours'
    expected = {tuple(c): i for i, c in enumerate(about['palette'])}
    for i in range(6):
        truth = [[expected[tuple(c)] for c in row] for row in COLOURS[numbers(i)].tolist()]
        assert np.array_equal(written(folders, i), truth)


def test_black_and_white(folders):
    write_masks(folders, lambda label: ((label > 0) * 255).astype(np.uint8))
    about = prepare(folders).about
    assert about['classes'] == ['background', 'foreground']
    assert np.array_equal(written(folders, 4), (numbers(4) > 0).astype(np.uint8))


def test_transparent_is_black(folders):
    def form(label):
        return np.dstack([COLOURS[label] + (label == 0)[..., None] * 77, (label > 0) * 255]).astype(
            np.uint8
        )

    write_masks(folders, form)
    prepare(folders, ignore=['0,0,0'])
    assert np.array_equal(written(folders, 5), np.array([255, 1, 0])[numbers(5)])


def test_jpeg_masks(folders):
    (folders / 'classes.txt').write_text('back 0 0 0\ncar 255 0 0\ntree 0 200 0\n')

    def form(label):  # blocks of 8, as JPEG has them
        return COLOURS[label].repeat(8, 0).repeat(8, 1)

    for i in range(6):
        photo(folders / f'images/p{i}.jpg', 64, 96, seed=i)
    write_masks(folders, form, '.jpg', quality=75)
    with pytest.raises(InputError, match='JPEG file blurs.*--nearest'):
        prepare(folders)
    with pytest.raises(InputError, match='belong to no class; a JPEG file'):
        prepare(folders, classes=folders / 'classes.txt')
    assert not (folders / 'data').exists()
    prepare(folders, classes=folders / 'classes.txt', nearest=True)
    same = written(folders, 0) == numbers(0).repeat(8, 0).repeat(8, 1)
    assert same.mean() > 0.9


def test_black_and_white_jpegs(folders):
    for i in range(6):
        photo(folders / f'images/p{i}.jpg', 64, 96, seed=i)

    def form(label):  # edges inside JPEG's blocks, which blur them
        return np.roll((label > 0).astype(np.uint8).repeat(8, 0).repeat(8, 1) * 255, 3, (0, 1))

    write_masks(folders, form, '.jpg', quality=60)
    with pytest.raises(InputError, match='--kind binary --nearest'):
        prepare(folders)
    prepare(folders, kind='binary', nearest=True)
    assert (written(folders, 0) == form(numbers(0)) // 255).mean() > 0.95


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
                 'p5.jpg and p5.png of one name'):  # fmt: skip
        assert told in str(error.value), (told, str(error.value))
    assert not (folders / 'data').exists()


def test_what_has_no_counterpart_can_be_left_out(folders):
    write_masks(folders)
    (folders / 'masks/p0.png').unlink()
    assert sum(prepare(folders, skip_unpaired=True).about['images'].values()) == 5


def test_suffixes_are_guessed_and_told(folders):
    write_masks(folders, suffix='_mask.png')
    with pytest.raises(InputError, match='--mask-suffix _mask'):
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
        ({'ignore': ['sky']}, '--ignore sky: expected a number'),
        ({'val_share': 1.0}, '--val-share 1.0'),
        ({'kind': 'polygons'}, '--kind polygons'),
        ({'mask_suffix': '_x'}, 'holds no mask'),
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
    prepare(folders)
    names = folders / 'classes.txt'
    names.write_text('sky 0 0 0\ntree 255 0 0\nroad 0 200 0\n')
    with pytest.raises(InputError, match='prepared before, with 3 classes.*sky, tree, road'):
        prepare(folders, classes=names)
    prepare(folders)  # the same again
    assert prepare(folders, classes=names, overwrite=True).about['classes'][0] == 'sky'
    prepare(folders, classes=names, seed=5)


def test_white_masks_are_no_two_classes(folders):
    write_masks(folders, lambda label: np.full_like(label, 255))
    with pytest.raises(InputError, match='black and white masks with 255 alone'):
        prepare(folders)


def test_one_class_is_none(folders):
    write_masks(folders, lambda label: label * 0 + 3)
    with pytest.raises(InputError, match='only one class'):
        prepare(folders)


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
    told = prepare(tmp_path, exif=drawn if turn < 5 else 'auto').remarks
    seen = mmcv.imread(str(tmp_path / 'images/p0.jpg'))[..., 0] > 120
    assert (seen == written(tmp_path, 0)).mean() > 0.99
    if turn < 5:
        assert any('--exif stored' in line for line in prepare(tmp_path).remarks)
    elif drawn == 'stored':
        assert any('turned as the EXIF data' in line for line in told)


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
                 for part in ('train', 'val', 'test')}  # fmt: skip
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


def test_the_data_set_reads_it(folders):
    write_masks(folders)
    about = prepare(folders).about
    meta = {key: about[key] for key in ('classes', 'palette')}
    dataset = DATASETS.build(dict(
        type='lspt_mm.MaskFolder', data_root=str(folders / 'data'), ann_file='val.json',
        metainfo=meta, pipeline=[{'type': 'lspt_mm.LoadImage'},
                                 {'type': 'lspt_mm.LoadSegLabels', 'num_classes': 3}],
    ))  # fmt: skip
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
)  # fmt: skip
def test_lists_that_are_none(folders, content, said):
    write_masks(folders)
    prepare(folders)
    (folders / 'data/val.json').write_text(content)
    with pytest.raises(InputError, match=said):
        DATASETS.build(dict(
            type='lspt_mm.MaskFolder', data_root=str(folders / 'data'), ann_file='val.json'
        ))  # fmt: skip


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
        ('sky:1,2,3::', MaskClass('sky', None, (1, 2, 3))),  # CVAT
    ],
)
def test_lines(tmp_path, line, expected):
    (tmp_path / 'c.txt').write_text(f'# a comment\n{line}\n')
    assert read_classes(tmp_path / 'c.txt') == [expected]


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'names no class'), ('a\na\n', 'name a is given twice'),
        ('a 1 2 3\nb 1 2 3\n', 'colour .* twice'), ('a 1 2 300\n', '0 to 255'),
        ('a 1 2 3\nb\n', 'some lines have a colour'), ('4 a\n4 b\n', 'value 4 is given twice'),
    ],
)  # fmt: skip
def test_files_of_classes_that_are_none(tmp_path, text, said):
    (tmp_path / 'c.txt').write_text(text)
    with pytest.raises(InputError, match=said):
        read_classes(tmp_path / 'c.txt')
