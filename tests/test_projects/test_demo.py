"""projects/demo/demo.py, shortened to a few iterations of everything."""

import json
import sys

import pytest
from miniatures import once, run_command
from PIL import Image
from safetensors.torch import load_file

from lspt_mm.models import PromptedViT
from projects.demo.pretrain import ARCH, PATCH, WEIGHTS

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """Folder of a finished demo, with what it printed."""

    def make(folder):
        run = run_demo(folder, '--pretrain')
        (folder / 'stdout.txt').write_text(run.out)
        assert run.code == 0, run.err[-4000:]

    return once(tmp_path_factory, 'demo', make)


def run_demo(folder, *options):
    return run_command(
        sys.executable, '-m', 'lspt_mm', 'demo', '--quick', '--out', folder / 'out', *options,
        cwd=folder,
    )


def test_it_prints_few_lines_and_the_tests_of_both_runs(demo):
    lines = (demo / 'stdout.txt').read_text().splitlines()
    assert len(lines) <= 60
    (mean,) = [line.split()[1:] for line in lines if line.startswith('mean')]
    runs = [demo / f'out/quick_{name}_pretrain_vit_scenes_seed0' for name in ('frozen', 'lspt')]
    found = [json.loads((run / 'test/test.json').read_text()) for run in runs]
    assert [float(value) for value in mean] == [
        pytest.approx(result['value'], abs=0.005) for result in found
    ]


def test_the_picture(demo):
    width, height = Image.open(demo / 'out/demo.png').size
    assert width > 800 and height > 600


def test_what_is_there_is_used_again(demo):
    run = run_demo(demo, '--pretrain', '--method', 'vpt-deep')
    assert run.code == 0, run.err[-4000:]
    assert 'quick_frozen_pretrain_vit_scenes_seed0: finished before' in run.out
    assert 'rendering' not in run.out
    assert any('vpt-deep' in line and 'frozen' in line for line in run.out.splitlines())


def test_the_weights_of_the_package_are_a_whole_vit():
    assert WEIGHTS.stat().st_size <= 4e6
    vit = PromptedViT(
        arch=ARCH, patch_size=PATCH, img_size=160, pretrained=str(WEIGHTS), out_type='featmap',
        final_norm=False,
    )
    vit.init_weights()
    stored = load_file(WEIGHTS)
    assert {str(tensor.dtype) for tensor in stored.values()} == {'torch.float16'}
    assert all((vit.state_dict()[name] == tensor).all() for name, tensor in stored.items())
