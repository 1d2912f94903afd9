"""What the demo app's page shows, without a browser: escaping, errors, pictures."""

import importlib.util
import logging

import numpy as np
import pytest
from miniatures import save_image
from PIL import Image
from served_miniatures import BIRDS, METHODS, write_sources

from lspt_mm.errors import InputError
from lspt_mm.utils.overlay import colours_of, mask_over
from projects.demo_app import demo_app
from projects.demo_app.image_io import Limits
from projects.demo_app.models import ServedModels
from projects.demo_app.pictures import attention_over, map_of
from projects.demo_app.results import Attention, BlockMaps


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    methods = {name: METHODS[name] for name in ('gated', 'none')}
    sources = write_sources(folder / 'seg', 'seg', methods=methods)
    sources += write_sources(folder / 'cls', 'cls', methods=methods, meta={'classes': BIRDS})
    return demo_app.Demo(ServedModels(sources), Limits())


@pytest.fixture
def photo(tmp_path):
    save_image(tmp_path / 'photo.png', 40, 56)
    return str(tmp_path / 'photo.png')


def test_names_of_classes_are_text_not_html(demo, photo):
    told, shown = demo.predict(photo, 'cls gated', demo_app.ALONE, None)
    assert '56 x 40 pixels. Predicted by cls gated.' in told
    _, picture, rows = demo.panel(shown, 0, 0.6)
    assert 'ant &amp; &lt;b&gt;bee&lt;/b&gt;' in rows and '<b>bee' not in rows
    assert picture.shape[2] == 3
    assert demo.panel(shown, 1, 0.6) == ('', None, '')


def test_names_of_files_are_text_not_html(demo, tmp_path):
    path = tmp_path / '<img src=x onerror=alert()>.png'
    path.write_text('words')
    told, shown = demo.predict(str(path), 'seg gated', demo_app.ALONE, None)
    assert shown is None and 'role="alert"' in told and '<img' not in told


def test_one_name_twice_is_predicted_once(demo, photo):
    told, shown = demo.predict(photo, 'seg gated', 'seg gated', None)
    assert [one.model for one in shown.results] == ['seg gated']
    _, shown = demo.predict(photo, 'seg none', 'seg gated', shown)
    assert [one.model for one in shown.results] == ['seg none', 'seg gated']


def test_what_is_known_is_not_asked_again(demo, photo, caplog):
    with caplog.at_level(logging.INFO, 'lspt_mm'):
        _, first = demo.predict(photo, 'seg gated', demo_app.ALONE, None)
        _, second = demo.predict(photo, 'seg none', 'seg gated', first)
    assert second.results[1] is first.results[0]
    assert caplog.text.count('predicted with seg gated') == 1


@pytest.mark.parametrize('error, words', [
    (MemoryError(), 'not enough memory'), (RuntimeError('secret'), 'see its log'),
])
def test_errors_become_messages(demo, photo, error, words, monkeypatch, capsys):
    def fails(*args):
        raise error

    monkeypatch.setattr(demo.models, 'predict', fails)
    told, shown = demo.predict(photo, 'seg gated', demo_app.ALONE, None)
    assert shown is None and words in told and 'secret' not in told and 'role="alert"' in told
    if isinstance(error, RuntimeError):
        assert 'secret' in capsys.readouterr().err


def test_attention_pictures(demo, photo):
    _, shown = demo.predict(photo, 'seg gated', 'seg none', None)
    for asker, head in (('class token', demo_app.MEAN), ('prompts', 'head 2')):
        pictures, told = demo.attention(shown, 0, asker, head)
        assert [caption.split(':')[0] for _, caption in pictures] == [
            f'block {n}' for n in range(1, 5)
        ]
        assert asker in told
    block = shown.results[0].attention.blocks[0]
    assert pictures[0][1] == f'block 1: {block.prompts[1].sum():.0%}'
    assert demo.attention(shown, 1, 'prompts', demo_app.MEAN) == ([], 'seg none has no prompts.')
    assert demo.attention(shown, 0, 'prompts', 'head 3')[0] == []
    assert demo.attention(None, 0, 'prompts', demo_app.MEAN) == ([], '')


def test_long_legends_are_cut(demo, photo):
    _, shown = demo.predict(photo, 'seg gated', demo_app.ALONE, None)
    (result,) = shown.results
    first = result.description.classes[0]
    many = [first._replace(name=f'n{i}', share=0.05) for i in range(20)]
    description = result.description._replace(classes=many)
    rows = demo_app.class_rows(result._replace(description=description))
    assert rows.count('<tr>') == 13 and '8 more classes' in rows and '40.0%' in rows


def test_without_gradio(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'lspt_mm\[app\]'"):
        demo_app.prepare_gradio()


# ---- pictures ---------------------------------------------------------------------------------


def test_colours():
    assert colours_of(2, [[1, 2, 3], [4, 5, 6]]) == [(1, 2, 3), (4, 5, 6)]
    made = colours_of(150, [[1, 2, 3]])  # a palette of another number of classes is none
    assert len(set(made)) == 150 and all(0 <= v <= 255 for colour in made for v in colour)


def test_a_mask_over_its_image():
    image = np.full((2, 4, 3), 100, np.uint8)
    mask = np.zeros((2, 4, 3), np.uint8)
    mask[:, 2:] = 200
    over = mask_over(image, mask, opacity=0.5, least_side=4)
    assert (over[:, :2] == 50).all() and (over[:, 3] == 150).all()
    assert (over[:, 2] == 60).all()  # the line: 40 % of 150
    assert np.array_equal(mask_over(image, mask, opacity=0.0, least_side=4), image)
    assert mask_over(image, mask, least_side=9).shape == (6, 12, 3)


def test_attention_lies_where_its_patch_is():
    seen = np.zeros((40, 60, 3), np.uint8)
    attention = Attention(seen, (8.0, 8.0), [])
    grid = np.zeros((5, 7), np.float32)  # 4 pixels at the right are in no patch
    grid[1, 4] = 0.3
    over = attention_over(attention, grid, long_side=600).astype(int).sum(-1)
    assert over.shape == (400, 600)
    row, column = np.unravel_index(over.argmax(), over.shape)
    assert abs(row - 12 * 10) <= 1 and abs(column - 36 * 10) <= 1  # the patch's centre, times ten
    assert over[0, 0] == over[399, 599] == over.min()


def test_heads_and_their_mean():
    maps = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    block = BlockMaps(1, maps, None)
    assert np.array_equal(map_of(block, 'cls', 1), maps[1])
    assert np.array_equal(map_of(block, 'cls'), (maps[0] + maps[1]) / 2)
    assert map_of(block, 'prompts') is None
    Image.fromarray(attention_over(Attention(np.zeros((9, 9, 3), np.uint8), (4, 4), []), maps[0]))
