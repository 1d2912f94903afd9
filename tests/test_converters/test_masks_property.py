"""Random sets of masks in every supported form: read as the classes they are of, or refused.

A set is drawn as class maps; a form writes them as values, colours or a palette. What comes out is
compared with the maps: by the names of a class file, or else as a numbering of the same classes.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from lspt_mm.converters.masks import prepare_masks
from lspt_mm.errors import InputError

HEIGHT, WIDTH = 4, 5
VOID = -1
OPTIONS = dict(deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def class_maps(draw, most=5):
    """Maps (H, W) of classes 0 .. K - 1 and void, and K."""
    count = draw(st.integers(2, most))
    shape = (draw(st.integers(3, 5)), HEIGHT, WIDTH)
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, count, shape)
    if draw(st.booleans()):
        maps[rng.random(shape) < draw(st.sampled_from([0.02, 0.1, 0.5]))] = VOID
    if draw(st.integers(0, 9)) == 0:
        maps[-1] = VOID  # a mask of nothing else
    return maps, count


def distinct(draw, count, low, high, taken=()):
    values = st.integers(low, high).filter(lambda value: value not in taken)
    return draw(st.lists(values, min_size=count, max_size=count, unique=True))


def as_values(maps, values, void):
    table = np.array([*values, void])
    return table[maps]  # VOID is the last


def grey(draw, maps, count):
    values, void = list(range(count)), 255
    if draw(st.booleans()):
        values, void = sorted(distinct(draw, count, 0, 254)), 255
    images = [Image.fromarray(one.astype(np.uint8)) for one in as_values(maps, values, void)]
    if draw(st.booleans()):
        images = [image.convert('RGB') for image in images]
    return images, values, void, draw(st.sampled_from(['.png', '.tif', '.bmp', '.webp'])), 'indices'


def deep(draw, maps, count):
    kind = draw(st.sampled_from(['uint16', 'int32', 'float32']))
    values = sorted(distinct(draw, count, 0, 60000))
    void = draw(st.sampled_from([65535, 65000])) if kind == 'uint16' else draw(
        st.sampled_from([-1, -9999, 65535]))
    arrays = as_values(maps, values, void).astype(kind)
    suffix = '.tif' if kind != 'uint16' else draw(st.sampled_from(['.png', '.tif']))
    return [Image.fromarray(one) for one in arrays], values, void, suffix, 'indices'


def colours_of(draw, count):
    packed = distinct(draw, count + 1, 0, 0xFFFFFF)
    return [(value >> 16, value >> 8 & 255, value & 255) for value in packed]


def rgb(draw, maps, count):
    colours = colours_of(draw, count)
    arrays = np.array(colours, np.uint8)[maps]
    suffix = draw(st.sampled_from(['.png', '.tif', '.bmp', '.webp']))
    return [Image.fromarray(one) for one in arrays], colours[:-1], colours[-1], suffix, 'colors'


def palette(draw, maps, count):
    """Places of a palette that is another for each mask, or the same one for all."""
    colours = colours_of(draw, count)
    same = draw(st.booleans())
    images, places = [], []
    for one in maps:
        order = places[0] if same and places else distinct(draw, count + 1, 0, 255)
        places.append(order)
        table = np.full((256, 3), 7, np.uint8)
        table[order] = colours
        image = Image.fromarray(np.array(order, np.uint8)[one])
        image.putpalette(table.ravel().tolist())
        images.append(image)
    suffix = draw(st.sampled_from(['.png', '.tif', '.bmp']))
    if same and draw(st.booleans()):
        return images, places[0][:-1], places[0][-1], suffix, 'indices'
    return images, colours[:-1], colours[-1], suffix, 'colors'


def binary(draw, maps, count):
    maps = np.where(maps == VOID, 0, maps > 0).astype(np.uint8)
    high = draw(st.sampled_from([1, 255]))
    images = [Image.fromarray(one * np.uint8(high)) for one in maps]
    if high == 255 and draw(st.booleans()):
        images = [image.convert('1') for image in images]
    return images, [0, high], None, draw(st.sampled_from(['.png', '.tif', '.bmp'])), 'binary'


def said(value):
    return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)


@st.composite
def mask_sets(draw):
    maps, count = draw(class_maps())
    form = draw(st.sampled_from([grey, deep, rgb, palette, binary]))
    images, values, void, suffix, labels = form(draw, maps, count)
    if form is binary:
        maps, count = np.where(maps == VOID, 0, maps > 0).astype(int), 2
    names = [f'thing {i}' for i in range(count)]
    lines = None
    if draw(st.booleans()):
        if labels == 'colors':
            lines = [f'{name} {said(v)}' for name, v in zip(names, values, strict=True)]
        elif (values == list(range(count)) or labels == 'binary') and draw(st.booleans()):
            lines = names
        else:
            lines = [f'{value} {name}' for value, name in zip(values, names, strict=True)]
        if draw(st.booleans()) and lines is not names:
            lines = lines[::-1]
    layout = draw(st.sampled_from(['flat', 'suffix', 'split', 'kinds']))
    return dict(
        maps=maps, names=names, lines=lines, images=images, suffix=suffix, layout=layout,
        labels=draw(st.sampled_from([labels, None])), form=form.__name__,
        ignore=[said(void)] if void is not None and (maps == VOID).any() else [],
    )


def write(root, one):
    """Photos and masks in the layout; names of the masks below ``masks``."""
    photo = Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    options = {'lossless': True} if one['suffix'] == '.webp' else {}
    for i, mask in enumerate(one['images']):
        split = ('train', 'train', 'val', 'test', 'train')[i]
        before, after, end = {
            'flat': ('images', 'masks', ''), 'suffix': ('images', 'masks', '_mask'),
            'split': (f'images/{split}', f'masks/{split}', ''),
            'kinds': (f'all/{split}/images', f'all/{split}/masks', ''),
        }[one['layout']]
        for folder in (before, after):
            (root / folder).mkdir(parents=True, exist_ok=True)
        photo.save(root / before / f'p{i}.png')
        mask.save(root / after / f'p{i}{end}{one["suffix"]}', **options)
    if one['lines'] is not None:
        (root / 'classes.txt').write_text('\n'.join(one['lines']) + '\n')


def check(one):
    root = Path(tempfile.mkdtemp())
    try:
        write(root, one)
        kinds = one['layout'] == 'kinds'
        images, masks = (root / ('all' if kinds else name) for name in ('images', 'masks'))
        try:
            about = prepare_masks(
                images, masks, root / 'data', labels=one['labels'], ignore=one['ignore'],
                classes=root / 'classes.txt' if one['lines'] else None,
                mask_suffix='_mask' if one['layout'] == 'suffix' else '',
            ).about
        except InputError as error:
            event(f'refused: {one["form"]}')
            assert str(error)
            return
        event(f'read: {one["form"]}')
        numbers = {}
        for i, wanted in enumerate(one['maps']):
            (path,) = (root / 'data/masks').rglob(f'p{i}.png')
            for true, found in zip(wanted.ravel(), np.array(Image.open(path)).ravel(), strict=True):
                assert numbers.setdefault(int(true), int(found)) == found
        assert numbers.pop(VOID, 255) == 255
        assert 255 not in numbers.values() and len(set(numbers.values())) == len(numbers)
        if one['lines'] is not None:
            assert {about['classes'][n] for n in numbers.values()} <= set(one['names'])
            assert all(about['classes'][n] == one['names'][true] for true, n in numbers.items())
    finally:
        shutil.rmtree(root)


@settings(max_examples=25, **OPTIONS)
@given(mask_sets())
def test_a_few(one):
    check(one)


@pytest.mark.slow
@settings(max_examples=2500, **OPTIONS)
@given(mask_sets())
def test_many(one):
    check(one)
