"""The demo app in a browser: what is seen of good images, of bad ones, and of several models."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from miniatures import (
    ROOT,
    free_port,
    once,
    run_ok,
    run_tool,
    write_classification,
    write_segmentation,
)
from PIL import Image

pytestmark = pytest.mark.pages

BLOCKS = 4
GATED = "dict(_delete_=True, type='GatedPrompt', num_tokens=2)"


@pytest.fixture(scope='module')
def runs(browser, tmp_path_factory):
    """Work dirs of three runs of a second: LSPT, gated and no prompts, and a classifier."""

    def train(config, work):
        run_ok('train.py', config, '--work-dir', work, cwd=work.parent)

    def make(folder):
        (folder / 'cls').mkdir()
        seg, cls = write_segmentation(folder), write_classification(folder / 'cls')
        train(seg.config, folder / 'lspt')
        train(cls.config, folder / 'kinds')
        for name, prompter in (('gated', GATED), ('none', 'None')):
            config = folder / f'{name}.py'
            config.write_text(
                f'_base_ = {str(seg.config)!r}\nmodel = dict(backbone=dict(prompter={prompter}))\n'
            )
            train(config, folder / name)

    return once(tmp_path_factory, 'demo_app_runs', make)


class App:
    """The app as a process."""

    def __init__(self, folder, log, *options):
        self.log = log
        self.port = free_port()
        command = [sys.executable, '-m', 'lspt_mm', 'demo_app', '--port', self.port]
        command += ['--device', 'cpu']
        command += [f'--run={name}={folder / name}' for name in ('lspt', 'gated', 'none', 'kinds')]
        env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
        with log.open('w') as stream:
            self.process = subprocess.Popen(
                [*map(str, command), *options], stdout=stream, stderr=subprocess.STDOUT, env=env
            )
        self.url = f'http://127.0.0.1:{self.port}/'
        self.wait_for('ready: ', 300)

    def text(self):
        return self.log.read_text()

    def wait_for(self, words, seconds=60):
        end = time.monotonic() + seconds
        while words not in self.text():
            assert self.process.poll() is None, self.text()[-4000:]
            assert time.monotonic() < end, f'no {words!r} in\n{self.text()[-4000:]}'
            time.sleep(0.2)


@pytest.fixture(scope='module')
def app(runs, tmp_path_factory):
    app = App(runs, tmp_path_factory.mktemp('app') / 'log.txt')
    yield app
    app.process.terminate()
    app.process.wait(30)


class Page:
    """The app's page as a user handles it."""

    def __init__(self, browser, url, shot):
        self.browser = browser
        self.shot = lambda name: shot(f'demo_app_{name}')
        browser.get(url)
        self.until(lambda: self.find('#upload input[type=file]') and self.status())

    def find(self, selector):
        from selenium.webdriver.common.by import By

        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def until(self, condition, seconds=60):
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        wait = WebDriverWait(
            self.browser, seconds, ignored_exceptions=[StaleElementReferenceException]
        )
        return wait.until(lambda _: condition())

    def text(self, selector):
        found = self.find(selector)
        return found[0].text.strip() if found else ''

    def status(self):
        return self.text('#status [role]')

    def refusal(self):
        return self.text('#status [role=alert]')

    def drop(self, path):
        """Put a file on the image's place; one that is there is taken away first."""
        for button in self.find('#upload button[aria-label="Remove Image"]'):
            button.click()
            self.until(lambda: 'Drop an image' in self.status())
        self.find('#upload input[type=file]')[0].send_keys(str(path))

    def drop_good(self, path, *names):
        self.drop(path)
        self.seen_by(*(names or ['lspt']))

    def seen_by(self, *names):
        self.until(lambda: self.status().endswith(f'Predicted by {" and ".join(names)}.'))
        for which, name in zip(('one', 'two'), names, strict=False):
            self.until(lambda w=which, n=name: self.text(f'#title-{w} b') == n)
            self.until(lambda w=which: self.whole(f'#picture-{w} img'))

    def choose(self, which, name):
        self.find(f'#{which} input')[0].click()
        self.until(lambda: self.option(name))
        self.option(name)[0].click()

    def option(self, name):
        return [o for o in self.find('ul[role=listbox] li[role=option]')
                if o.get_attribute('aria-label') == name]

    def whole(self, selector):
        """Number of pictures there, 0 until all of them are loaded."""
        script = """const all = [...document.querySelectorAll(arguments[0])];
            return all.every(i => i.complete && i.naturalWidth > 0) ? all.length : 0"""
        return self.browser.execute_script(script, selector)

    def maps(self, which='one'):
        return self.whole(f'#maps-{which} button img')

    def captions(self, which='one'):
        return [e.text for e in self.find(f'#maps-{which} .caption-label')]

    def pixels(self, selector):
        """A picture of the page as an array."""
        script = """const done = arguments[1], i = document.querySelector(arguments[0]);
            const c = document.createElement('canvas');
            c.width = i.naturalWidth; c.height = i.naturalHeight;
            c.getContext('2d').drawImage(i, 0, 0);
            const d = c.getContext('2d').getImageData(0, 0, c.width, c.height);
            done([c.height, c.width, Array.from(d.data)])"""
        height, width, data = self.browser.execute_async_script(script, selector)
        return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


@pytest.fixture
def page(app, browser, shot):
    return Page(browser, app.url, shot)


@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp('photos') / 'photo.png'
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def predicted(runs, name, photo):
    """mmseg's own inference with a run's config and checkpoint: class numbers."""
    from mmengine.config import Config
    from mmseg.apis import inference_model, init_model

    (config,) = (runs / name).glob('*.py')
    cfg = Config.fromfile(config)
    model = init_model(cfg, (runs / name / 'last_checkpoint').read_text().strip(), device='cpu')
    model.cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    labels = inference_model(model, str(photo)).pred_sem_seg.data[0].numpy()
    return labels, model.dataset_meta


def expected_rows(labels, meta):
    counts = np.bincount(labels.ravel())
    shares = {meta['classes'][n]: f'{c / labels.size:.1%}' for n, c in enumerate(counts) if c}
    return shares


def rows(page, which='one'):
    """The table beside a picture: names to shares."""
    found = page.find(f'#rows-{which} tr')
    cells = [[c.text for c in row.find_elements('css selector', 'td')] for row in found]
    return {name: share for name, share, _ in cells}


def check_rows(shown, labels, meta):
    expected = expected_rows(labels, meta)
    named = {name: share for name, share in shown.items() if not name.endswith('more classes')}
    assert named and all(expected[name] == share for name, share in named.items())
    assert len(named) == min(len(expected), 12)


def test_mask_and_attention(page, runs, photo):
    page.shot('empty')
    page.drop_good(photo)
    labels, meta = predicted(runs, 'lspt', photo)
    check_rows(rows(page), labels, meta)
    # The picture itself: with the mask alone (opacity 1) the palette's colours, but for the lines.
    shown = page.pixels('#picture-one img')
    factor = shown.shape[0] // 40
    assert shown.shape == (40 * factor, 56 * factor, 3)
    image = np.asarray(Image.open(photo).resize(shown.shape[1::-1], Image.Resampling.BILINEAR))
    colours = np.array(meta['palette'])[labels].repeat(factor, 0).repeat(factor, 1)
    mixed = 0.4 * image + 0.6 * colours
    close = np.abs(shown - mixed).max(-1) <= 1
    inside = np.zeros((40, 56, factor, factor), bool)
    inside[:, :, 1:, 1:] = True  # lines are on the cells' first rows and columns
    assert close[inside.transpose(0, 2, 1, 3).reshape(close.shape)].all()
    page.until(lambda: page.maps() == BLOCKS)
    captions = page.captions()
    assert [c.split(':')[0] for c in captions] == [f'block {n}' for n in range(1, BLOCKS + 1)]
    assert 'class token of lspt' in page.text('#caption-one')
    page.shot('segmentation')


def test_attention_of_prompts_and_of_one_head(page, photo):
    page.drop_good(photo)
    page.until(lambda: page.maps() == BLOCKS)
    mean = page.pixels('#maps-one button img')
    page.choose('head', 'head 2')
    page.until(lambda: page.maps() and not same(page.pixels('#maps-one button img'), mean))
    second = page.pixels('#maps-one button img')
    page.find('#asker input[value=prompts]')[0].click()
    page.until(lambda: 'prompts of lspt' in page.text('#caption-one'))
    page.until(lambda: page.maps() and not same(page.pixels('#maps-one button img'), second))
    page.choose('first', 'none')
    page.seen_by('none')
    page.until(lambda: page.text('#caption-one') == 'none has no prompts.')
    assert not page.find('#maps-one button img')


def same(a, b):
    return a.shape == b.shape and np.array_equal(a, b)


def test_switching_loads_nothing(page, app, runs, photo):
    assert app.text().count(' loaded ') == 4
    page.drop_good(photo)
    before = page.pixels('#picture-one img')
    count = app.text().count('predicted with gated')
    page.choose('first', 'gated')
    page.seen_by('gated')
    check_rows(rows(page), *predicted(runs, 'gated', photo))
    page.until(lambda: not same(page.pixels('#picture-one img'), before))
    page.choose('first', 'lspt')
    page.seen_by('lspt')
    page.until(lambda: same(page.pixels('#picture-one img'), before))
    assert app.text().count(' loaded ') == 4
    assert app.text().count('predicted with gated') == count + 1


def test_side_by_side(page, app, runs, photo):
    page.drop_good(photo)
    before = app.text().count('predicted with lspt')
    page.choose('second', 'gated')
    page.seen_by('lspt', 'gated')
    for which, name in (('one', 'lspt'), ('two', 'gated')):
        check_rows(rows(page, which), *predicted(runs, name, photo))
        page.until(lambda w=which: page.maps(w) == BLOCKS)
    assert app.text().count('predicted with lspt') == before  # known already
    page.shot('side_by_side')
    page.choose('second', 'nothing')
    page.seen_by('lspt')
    page.until(lambda: not page.text('#title-two'))


def test_classes(page, runs, photo):
    page.choose('first', 'kinds')
    page.drop_good(photo, 'kinds')
    shown = rows(page)
    assert set(shown) == {'ant', 'bee', 'cat'}
    shares = [float(value.rstrip('%')) for value in shown.values()]
    assert shares == sorted(shares, reverse=True) and abs(sum(shares) - 100) < 0.2
    page.until(lambda: page.maps() == BLOCKS)
    page.shot('classification')


def bad_files(folder):
    """Name of a bad file to words of its message."""
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    (folder / 'words.png').write_text('These are words, not pixels.\n' * 9)
    Image.fromarray(pixels).save(folder / 'cut.jpg')
    whole = (folder / 'cut.jpg').read_bytes()
    (folder / 'cut.jpg').write_bytes(whole[: len(whole) // 2])
    Image.new('L', (20_000, 2_500)).save(folder / 'wide.png')
    Image.new('L', (20_000, 20_000)).save(folder / 'bomb.png')
    Image.new('RGB', (9, 9)).save(folder / 'tiny.png')
    Image.new('RGB', (20, 20)).save(folder / 'small.png')
    (folder / 'picture.svg').write_text('<svg xmlns="http://www.w3.org/2000/svg"></svg>')
    return {
        'words.png': ['not an image', 'JPEG, PNG'], 'cut.jpg': ['damaged or was cut off'],
        'wide.png': ['20,000 x 2,500 pixels are too many', '40.0 million'],
        'bomb.png': ['too many'], 'tiny.png': ['9 x 9 pixels are too few'],
        'small.png': ['20 x 20 pixels', 'too few', 'at least 32'],
        'picture.svg': ['not an image'],
    }


def test_bad_files_get_a_message(page, app, photo, tmp_path):
    for name, words in bad_files(tmp_path).items():
        page.drop(tmp_path / name)
        told = page.until(page.refusal)
        assert all(word in told for word in words), told
        # Not what was there before, and nothing beside the message.
        page.until(lambda: not page.find('#picture-one img') and not page.text('#title-one'))
        assert not page.find('#maps-one button img') and not rows(page)
        page.shot(f'bad_{Path(name).stem}')
        page.drop_good(photo)
        page.until(lambda: page.maps() == BLOCKS)
    assert 'Traceback' not in app.text()


def test_a_file_that_is_too_large(page, app, photo, tmp_path):
    """More bytes than the app takes do not get to it; the page says so."""
    (tmp_path / 'large.png').write_bytes(photo.read_bytes() + bytes(51 * 2**20))
    page.drop(tmp_path / 'large.png')
    page.until(lambda: 'size' in page.text('body').lower() and '50' in page.text('body'))
    page.shot('bad_large')
    page.browser.refresh()
    page.until(lambda: page.find('#upload input[type=file]') and page.status())
    page.drop_good(photo)


def test_nothing_is_fetched_from_elsewhere(page, app, photo):
    page.drop_good(photo)
    page.until(lambda: page.maps() == BLOCKS)
    messages = [json.loads(e['message'])['message'] for e in page.browser.get_log('performance')]
    asked = [
        m['params']['request']['url'] for m in messages
        if m['method'] == 'Network.requestWillBeSent'
        and m['params']['documentURL'].startswith(app.url)  # not of the browser's own pages
    ]
    assert any(url.startswith(app.url) for url in asked)
    elsewhere = [url for url in asked if not url.startswith((app.url, 'data:', 'blob:'))]
    assert not elsewhere


def test_two_users_at_once(app, browser, page, runs, photo):
    """Each sees the result of its own model, whoever asked last."""
    page.drop_good(photo)
    first = browser.current_window_handle
    browser.switch_to.new_window('window')
    try:
        other = Page(browser, app.url, page.shot)
        other.choose('first', 'gated')
        other.drop_good(photo, 'gated')
        check_rows(rows(other), *predicted(runs, 'gated', photo))
    finally:
        browser.close()
        browser.switch_to.window(first)
    check_rows(rows(page), *predicted(runs, 'lspt', photo))


@pytest.mark.parametrize('options, words', [
    ([], 'no model'), (['--run', 'x=nowhere'], 'no such folder'), (['a.py'], 'alone'),
    (['--max-pixels', '3'], 'max_pixels=3'),
])
def test_bad_options(options, words):
    run = run_tool('projects/demo_app/demo_app.py', *options)
    assert run.code == 2 and words in run.err and 'Traceback' not in run.err, run.err


def test_a_port_that_is_taken(app, runs):
    run = run_tool('projects/demo_app/demo_app.py', '--run', runs / 'lspt', '--port', app.port)
    assert run.code == 2 and f'--port {app.port}' in run.err, run.err
    assert 'Traceback' not in run.err
