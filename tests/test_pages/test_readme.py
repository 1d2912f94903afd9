"""README.md, run to the letter from a wheel, but for the ViT (a miniature) and the length."""

import json
import shlex

import pytest
from miniatures import ARCH, ROOT, once, write_vit
from pages import run_script, script_of, stranger

pytestmark = pytest.mark.pages

README = ROOT / 'README.md'
HUB = 'timm:vit_small_patch14_dinov2.lvd142m'
OPTIONS = {'arch': ARCH, 'patch_size': 8, 'crop': 64, 'iters': 10, 'batch_size': 2, 'channels': 8,
           'workers': 0}


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    def make(folder):
        who = stranger(folder)
        write_vit(who.folder / 'vit.pth')
        script = script_of(README)
        given = shlex.join(f'{name}={value}'.replace(' ', '') for name, value in OPTIONS.items())
        for before, after in (
            (f"'{HUB}'", "'vit.pth'"), (HUB, 'vit.pth'),
            ("out='runs/scenes')", f"out='runs/scenes', options={OPTIONS})"),
            ('--out runs/again', f'--out runs/again --options {given}'),
        ):
            assert before in script
            script = script.replace(before, after)
        told = run_script(who, script, 600)
        assert told.code == 0, told.out[-4000:]

    return once(tmp_path_factory, 'readme', make) / 'empty'


def test_both_runs_are_the_same(done):
    found = [json.loads((done / f'runs/{name}/validation.json').read_text())
             for name in ('scenes', 'again')]
    assert found[0]['metric'] == 'mIoU' and len(found[0]['classes']) == 16
    assert found[0] == found[1]


def test_what_it_leaves(done):
    assert (done / 'photo_01.png').is_file() and (done / 'scenes.onnx').is_file()
    assert (done / 'runs/again/report.html').is_file()
    assert len(list((done / 'predictions/overlays').iterdir())) == 20


def test_it_is_short():
    assert len(README.read_text().splitlines()) <= 150
