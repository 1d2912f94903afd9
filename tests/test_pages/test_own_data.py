"""docs/own_segmentation.md and docs/own_classification.md, run to the letter from a wheel."""

import csv
import json
import re

import numpy as np
import pytest
from miniatures import ROOT, once
from pages import blocks_of, run_page, run_script, stranger
from PIL import Image

import lspt_mm

SEGMENTATION = ROOT / 'docs' / 'own_segmentation.md'
CLASSIFICATION = ROOT / 'docs' / 'own_classification.md'
#: Seconds; an idle machine of two cores needs a fraction of it.
LIMIT = 3000


@pytest.mark.parametrize('page', [SEGMENTATION, CLASSIFICATION], ids=lambda page: page.stem)
def test_the_page_names_the_wheel_of_this_version(page):
    language, first = blocks_of(page)[0]
    assert language == 'bash'
    assert re.findall(r'lspt_mm-([^-]+)-', first) == [lspt_mm.__version__]


@pytest.mark.parametrize('page', [SEGMENTATION, CLASSIFICATION], ids=lambda page: page.stem)
def test_the_page_does_all_there_is_to_do(page):
    text = '\n'.join(text for _, text in blocks_of(page))
    for step in ('pip install', 'practice', 'train', ' test ', 'predict', 'publish_model',
                 'Inferencer('):
        assert step in text


def losses(work_dir):
    """Losses of a run in order, from MMEngine's log."""
    (path,) = work_dir.glob('2*/vis_data/scalars.json')
    lines = map(json.loads, path.read_text().splitlines())
    return [line['loss'] for line in lines if 'loss' in line]


def fell(values):
    third = max(1, len(values) // 3)
    return np.mean(values[-third:]) < 0.95 * np.mean(values[:third])


@pytest.fixture(scope='module')
def segmentation(tmp_path_factory):
    def make(folder):
        done = run_page(SEGMENTATION, folder, LIMIT)
        assert done.code == 0, done.out[-4000:]

    return once(tmp_path_factory, 'page_segmentation', make)


@pytest.fixture(scope='module')
def classification(tmp_path_factory):
    def make(folder):
        done = run_page(CLASSIFICATION, folder, LIMIT)
        assert done.code == 0, done.out[-4000:]

    return once(tmp_path_factory, 'page_classification', make)


@pytest.mark.pages
@pytest.mark.slow
def test_segmentation_trains(segmentation):
    assert fell(losses(segmentation / 'empty/work_dirs/mine'))
    (metrics,) = (segmentation / 'empty/work_dirs/mine/test').glob('*/*.json')
    assert 1 < json.loads(metrics.read_text())['mIoU'] <= 100


@pytest.mark.pages
@pytest.mark.slow
def test_segmentation_predicts(segmentation):
    empty = segmentation / 'empty'
    about = json.loads((empty / 'data/mine/about.json').read_text())
    for name in ('photo_11', 'photo_13'):
        photo = Image.open(empty / f'my/images/{name}.jpg')
        mask = Image.open(empty / f'found/masks/{name}.png')
        assert mask.size == photo.size
        numbers = np.array(mask)
        assert numbers.max() < len(about['classes']) and len(np.unique(numbers)) > 1
        # In any viewer it shows the classes' colours.
        colours = np.array(about['palette'])[numbers]
        assert np.array_equal(np.array(mask.convert('RGB')), colours)
        drawn = Image.open(empty / f'found/overlays/{name}.jpg')
        assert drawn.width > photo.width and drawn.height >= photo.height


@pytest.mark.pages
@pytest.mark.slow
def test_segmentation_is_shared_without_the_vit(segmentation):
    empty = segmentation / 'empty'
    (path,) = (empty / 'shared').glob('mine-*.pth')
    assert path.stat().st_size < 20e6 < 88e6  # the ViT alone has the latter
    before, after = (
        np.array(Image.open(empty / folder / 'masks/photo_11.png'))
        for folder in ('found', 'found_again')
    )
    assert np.array_equal(before, after)


@pytest.mark.pages
@pytest.mark.slow
def test_classification_trains(classification):
    work_dir = classification / 'empty/runs/things'
    assert fell(losses(work_dir))
    (metrics,) = (work_dir / 'test').glob('*/*.json')
    assert 0 <= json.loads(metrics.read_text())['accuracy/top1'] <= 100


@pytest.mark.pages
@pytest.mark.slow
def test_classification_predicts(classification):
    empty = classification / 'empty'
    with open(empty / 'found/predictions.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    images = {str(p.relative_to(empty)) for p in (empty / 'things/test').rglob('*.jpg')}
    assert {row['image'] for row in rows} == images and len(rows) == 3 * len(images)
    classes = set(json.loads((empty / 'runs/things/data/about.json').read_text())['classes'])
    assert {row['class'] for row in rows} <= classes
    for path in images:
        found = [float(row['probability']) for row in rows if row['image'] == path]
        assert found == sorted(found, reverse=True) and 0 < sum(found) <= 1 + 1e-5
    assert list((empty / 'shared').glob('things-*.pth')) and (empty / 'things.onnx').is_file()


@pytest.mark.pages
@pytest.mark.slow
def test_classification_of_several_labels(classification):
    empty = classification / 'empty'
    about = json.loads((empty / 'runs/several/data/about.json').read_text())
    assert about['multi_label'] and {'plant', 'no plant', 'car'} < set(about['classes'])
    found = json.loads((empty / 'runs/several/validation.json').read_text())
    assert found['metric'] == 'macro F1' and 0 <= found['value'] <= 100
    with open(empty / 'found_several/predictions.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert {row['image'] for row in rows} == {
        str(p.relative_to(empty)) for p in (empty / 'things/test').rglob('*.jpg')
    }
    assert all(float(row['probability']) >= 0.5 for row in rows if row['class'])


@pytest.mark.pages
@pytest.mark.slow
def test_tools_of_the_wheel_find_each_other(tmp_path):
    """The demo reads its weights and configs, and its runs are those of the other tools."""
    who = stranger(tmp_path)
    install = blocks_of(SEGMENTATION)[0][1]
    script = f'set -e\n{install}\npython -m lspt_mm demo --quick --out demo\n'
    script += 'python -m lspt_mm report demo/quick_lspt_* --out demo/report.html\n'
    done = run_script(who, script, LIMIT)
    assert done.code == 0, done.out[-4000:]
    assert (who.folder / 'demo/demo.png').is_file()
    assert 'id="figure-forgetting"' in (who.folder / 'demo/report.html').read_text()
