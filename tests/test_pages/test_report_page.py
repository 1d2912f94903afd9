"""The report in a browser: pictures are drawn, and can be flipped through."""

import numpy as np
import pytest
from miniatures import once, run_ok, write_segmentation

pytestmark = pytest.mark.pages

RUNS = ('LSPT', 'GaPT', 'none')
#: WebDriver's codes of the arrow keys. (Selenium is imported where it is used: the quick tests do
#: without it.)
LEFT, RIGHT, DOWN = '\ue012', '\ue014', '\ue015'


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    def make(folder):
        mini = write_segmentation(folder)
        text = mini.config.read_text()
        for name in RUNS:
            more = {
                'LSPT': '',
                'GaPT': "model['backbone'].update(prompter=dict("
                "_delete_=True, type='GatedPrompt', num_tokens=3))\n",
                'none': "model['backbone'].update(prompter=None)\n",
            }[name]
            (folder / f'{name}.py').write_text(text + more)
            run_ok('train.py', f'{name}.py', '--work-dir', folder / name, cwd=folder)
        run_ok('report.py', *RUNS, '--images', 3, '--pictures', 3, cwd=folder)

    return once(tmp_path_factory, 'report_in_a_browser', make) / 'report.html'


@pytest.fixture
def page(path, browser):
    browser.get(path.as_uri())
    drawn(browser, 5)  # class tokens of three runs, prompts of two
    return browser


def drawn(browser, count):
    """Wait until so many canvases have been drawn."""
    script = """return [...document.querySelectorAll('#rows canvas')].filter(c => c.width != 300 &&
        c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0)).length"""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30).until(lambda b: b.execute_script(script) == count)


def canvas(browser, run, which):
    """Pixels of a run's first or second map."""
    script = """const c = document.querySelectorAll(
          `[data-run="${arguments[0]}"] canvas`)[arguments[1]];
        return [c.height, c.width,
                Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]"""
    height, width, data = browser.execute_script(script, run, which)
    return np.array(data, np.uint8).reshape(height, width, 4)[..., :3]


def change(browser, identifier, value):
    script = """const e = document.getElementById(arguments[0]); e.value = arguments[1];
        e.dispatchEvent(new Event('input', {bubbles: true}))"""
    browser.execute_script(script, identifier, value)


def test_everything_is_shown_and_nothing_complains(page, shot):
    assert [e.text for e in page.find_elements('css selector', '.column h3')] == ['given', *RUNS]
    assert [e for e in page.get_log('browser') if e['level'] == 'SEVERE'] == []
    broken = "return [...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert page.execute_script(broken) == 0
    figures = page.find_elements('css selector', 'figure svg')
    assert len(figures) >= 12 and all(f.size['height'] > 100 for f in figures)
    # Nothing wider than the page, but what scrolls by itself.
    assert page.execute_script('return document.documentElement.scrollWidth <= innerWidth')
    shot('report')


def test_links_of_the_head_lead_somewhere(page):
    for link in page.find_elements('css selector', 'nav a'):
        assert page.find_elements('id', link.get_attribute('href').split('#')[1])


def test_blocks_and_heads(page):
    from selenium.webdriver.support.ui import Select

    last = canvas(page, 'LSPT', 1)
    change(page, 'pick-block', 1)
    drawn(page, 5)
    first = canvas(page, 'LSPT', 1)
    assert page.find_element('id', 'block-number').text == '1'
    assert not np.array_equal(first, last)
    Select(page.find_element('id', 'pick-head')).select_by_visible_text('head 2')
    drawn(page, 5)
    assert not np.array_equal(canvas(page, 'LSPT', 1), first)
    # Without its strength the map is gone, and the image alone is left.
    change(page, 'strength', 0)
    drawn(page, 5)
    assert np.array_equal(canvas(page, 'LSPT', 0), canvas(page, 'none', 0))


def test_colours_are_the_maps(page):
    """At full strength the brightest colour stands where the map has its peak."""
    change(page, 'strength', 1)
    drawn(page, 5)
    script = """const d = JSON.parse(document.getElementById('viewer-data').textContent);
        const one = d.images[0].runs[0].cls[d.blocks - 1];
        return [one.h, one.w, Array.from(atob(one.maps)).map(c => c.charCodeAt(0))]"""
    height, width, values = page.execute_script(script)
    maps = np.array(values).reshape(-1, height, width)
    shown = canvas(page, 'LSPT', 0).astype(int).sum(-1)

    def brightness(position):
        cell = np.unravel_index(position, maps[0].shape)
        pixel = ((np.array(cell) + 0.5) * np.array(shown.shape) / (height, width)).astype(int)
        return shown[tuple(pixel)]

    assert brightness(maps[0].argmax()) >= 0.9 * shown.max() > 0
    assert brightness(maps[0].argmin()) <= 1.5 * shown.min()


def test_flipping_by_buttons_and_keys(page):
    from selenium.webdriver.support.ui import Select

    image = Select(page.find_element('id', 'pick-image'))
    names = [option.text for option in image.options]
    assert len(names) == 3
    page.find_element('id', 'next').click()
    assert image.first_selected_option.text == names[1]
    viewer = page.find_element('id', 'viewer')
    page.execute_script('arguments[0].focus()', viewer)
    for key, expected in ((RIGHT, 2), (RIGHT, 2), (LEFT, 1)):
        page.switch_to.active_element.send_keys(key)
        assert image.first_selected_option.text == names[expected]
    page.switch_to.active_element.send_keys(DOWN)
    assert page.find_element('id', 'block-number').text == '3'
    drawn(page, 5)
    assert [e for e in page.get_log('browser') if e['level'] == 'SEVERE'] == []


def test_on_a_phone(page, shot):
    page.set_window_size(500, 900)
    try:
        page.refresh()
        drawn(page, 5)
        assert page.execute_script('return document.documentElement.scrollWidth <= innerWidth')
        shot('report_phone')
    finally:
        page.set_window_size(1400, 1700)
