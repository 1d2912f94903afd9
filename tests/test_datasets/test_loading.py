"""LoadSegLabels: what it loads, what it ignores, what it refuses."""

import numpy as np
import pytest
from miniatures import save_label
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from lspt_mm.datasets import LoadSegLabels
from lspt_mm.errors import InputError


def load(path, reduce_zero_label=False, ori_shape=None, label_map=None, **kwargs):
    results = {'seg_map_path': str(path), 'img_path': 'img.jpg', 'seg_fields': [],
               'reduce_zero_label': reduce_zero_label, 'label_map': label_map}
    if ori_shape:
        results['ori_shape'] = ori_shape
    kwargs.setdefault('num_classes', 3)
    return LoadSegLabels(**kwargs)(results)['gt_seg_map']


@pytest.fixture
def write(tmp_path):
    def write(values):
        save_label(tmp_path / 'label.png', np.atleast_2d(values).repeat(2, 0))  # of two equal rows
        return tmp_path / 'label.png'

    return write


def refused(path, *named, **kwargs):
    with pytest.raises(InputError) as error:
        load(path, **kwargs)
    for part in (str(path), *named):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ('values', 'expected', 'kwargs'),
    [
        ([0, 1, 2], [0, 1, 2], {}),
        ([0, 255, 2], [0, 255, 2], {}),
        ([255, 255], [255, 255], {}),
        # 0 is no class, 1 the first one
        ([0, 1, 2, 3], [255, 0, 1, 2], {'reduce_zero_label': True}),
        ([0, 1, 255], [255, 0, 255], {'reduce_zero_label': True}),
        # void
        ([0, 3, 2], [0, 255, 2], {'void': [3]}),
        ([0, 3, 4, 255], [0, 255, 255, 255], {'void': [3, 4]}),
        ([0, 1, 2], [0, 255, 2], {'void': [1]}),
        # all values that 8 bits have
        (list(range(256)), list(range(256)), {'num_classes': 255}),
        ([0, 254, 255], [255, 253, 255], {'num_classes': 254, 'reduce_zero_label': True}),
    ],
)
def test_values(write, values, expected, kwargs):
    label = load(write(values), **kwargs)
    assert label.dtype == np.uint8
    assert label.tolist() == [expected, expected]


@pytest.mark.parametrize(
    ('values', 'named', 'kwargs'),
    [
        ([0, 3], ['3', '2 pixels', '0 to 2'], {}),
        ([3, 254, 3, 9], ['3, 9, 254', '8 pixels'], {}),
        # by the number in the file
        ([0, 4], ['value 4', '1 to 3'], {'reduce_zero_label': True}),
        ([1, 254], ['254'], {'reduce_zero_label': True}),
        ([0, 4], ['4', '3 or'], {'void': [3]}),
        ([254], ['254'], {'num_classes': 254}),
    ],
)
def test_values_outside_the_classes(write, values, named, kwargs):
    refused(write(values), *named, **kwargs)


@pytest.mark.parametrize('void', [[4], [3, 4]])
def test_void_with_reduce_zero_label_means_values_of_the_file(write, void):
    label = load(write([0, 1, 4]), void=void, reduce_zero_label=True)
    assert label.tolist() == [[255, 0, 255]] * 2


def test_void_does_not_hit_a_class_that_was_reduced_onto_it(write):
    # 4 in the file is class 3 afterwards; void=[3] is the file's 3, class 2.
    label = load(write([3, 4]), num_classes=4, void=[3], reduce_zero_label=True)
    assert label.tolist() == [[255, 3]] * 2


def test_equals_mmsegs_where_all_is_right(write):
    values = np.random.default_rng(0).integers(0, 4, (5, 7))
    path = write(values)
    results = {'seg_map_path': str(path), 'seg_fields': [], 'reduce_zero_label': True,
               'label_map': None}
    expected = LoadAnnotations()(dict(results))['gt_seg_map']
    assert np.array_equal(load(path, reduce_zero_label=True), expected)


def test_size_of_the_image(write):
    path = write(np.zeros((2, 6)))
    assert load(path, ori_shape=(4, 6)).shape == (4, 6)
    refused(path, 'img.jpg', '6x4', '4x6', ori_shape=(6, 4))
    refused(path, '6x4', '7x4', ori_shape=(4, 7))


def test_palette_images_hold_numbers_of_classes(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8), mode='P')
    image.putpalette([9, 9, 9] * 256)  # the colours mean nothing
    image.save(tmp_path / 'palette.png')
    assert load(tmp_path / 'palette.png').tolist() == [[0, 1], [2, 255]]


@pytest.mark.parametrize('values', [np.uint16([[1]]), np.uint16([[300]])])
def test_more_than_8_bits(tmp_path, values):
    Image.fromarray(values).save(tmp_path / 'deep.png')
    refused(tmp_path / 'deep.png', '8 bits')


@pytest.mark.parametrize('channels', [2, 3, 4])
def test_more_than_one_channel(tmp_path, channels):
    save_label(tmp_path / 'colour.png', np.zeros((4, 4, channels)))
    refused(tmp_path / 'colour.png', {2: 'LA', 3: 'RGB', 4: 'RGBA'}[channels])


def test_files_that_are_no_images(tmp_path, write):
    content = write(np.random.default_rng(0).integers(0, 3, (40, 40))).read_bytes()
    for name, data in {
        'empty': b'', 'text': b'labels', 'head': content[:20], 'half': content[: len(content) // 2],
    }.items():
        path = tmp_path / f'{name}.png'
        path.write_bytes(data)
        refused(path)
    refused(tmp_path / 'absent.png')


def test_png_with_a_wrong_checksum(tmp_path, write):
    content = bytearray(write(np.random.default_rng(0).integers(0, 3, (40, 40))).read_bytes())
    content[60] ^= 255
    (tmp_path / 'torn.png').write_bytes(content)
    refused(tmp_path / 'torn.png')
