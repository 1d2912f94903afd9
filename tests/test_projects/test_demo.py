"""projects/demo/demo.py, shortened to a few iterations of everything."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from miniatures import once, run_command

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """Folder of a finished demo, with what it printed."""

    def make(folder):
        run = run_python(folder)
        (folder / 'stdout.txt').write_text(run.out)
        assert run.code == 0, run.err[-4000:]

    return once(tmp_path_factory, 'demo', make)


def run_python(folder, *options):
    return run_command(
        sys.executable, '-m', 'lspt_mm', 'demo', '--quick', '--out', folder / 'out', *options,
        cwd=folder,
    )


def test_both_results_are_printed_last(demo):
    last = (demo / 'stdout.txt').read_text().strip().splitlines()[-4:-2]
    results = json.loads((demo / 'out' / 'result_lspt.json').read_text())
    assert [float(line.split()[-1]) for line in last] == [
        pytest.approx(results[name]['mIoU'], abs=0.005) for name in ('lspt', 'frozen')
    ]


def test_the_published_file_is_small_and_was_tested(demo):
    out = (demo / 'stdout.txt').read_text()
    (path,) = (demo / 'out' / 'published').glob('lspt-*.pth')
    assert f'the same mIoU from {Path("out") / "published" / path.name}' in out.replace(
        f'{demo}/', ''
    )
    full = next((demo / 'out' / 'lspt').glob('iter_*.pth'))
    assert path.stat().st_size < full.stat().st_size
    assert 'rendered scenes' in path.with_suffix('.md').read_text()
    (tested,) = (demo / 'out' / 'lspt' / 'test_published').glob('*/*.json')
    results = json.loads((demo / 'out' / 'result_lspt.json').read_text())
    assert json.loads(tested.read_text())['mIoU'] == results['lspt']['mIoU']


def test_the_page(demo):
    page = (demo / 'out' / 'report.html').read_text()
    assert all(f'id="figure-{name}"' in page for name in ('curves', 'forgetting', 'memory'))
    found = re.search(r'id="viewer-data">(.*?)</script>', page, re.DOTALL)[1]
    assert json.loads(found)['runs'] == ['lspt', 'none'] and len(json.loads(found)['images']) == 6


def test_another_method_with_the_same_vit(demo):
    run = run_python(demo, '--method', 'bilinear-deep', '--pictures', '1')
    assert run.code == 0, run.err[-4000:]
    assert 'used again' in run.out and 'whitening of blocks 1, 2' in run.out
    assert 'UPerNet with bilinear-deep prompts' in run.out.splitlines()[-4]
    page = (demo / 'out' / 'report.html').read_text()
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', page, re.DOTALL)[1])
    assert data['runs'] == ['bilinear-deep', 'lspt', 'none'] and len(data['images']) == 1
    (trained,) = re.findall(r'\$ python tools/train.py (\S+)', run.out)  # neither MAE nor baseline
    assert trained.endswith('bilinear-deep_upernet_scenes.py')
    kept = json.loads((demo / 'out' / 'result_lspt.json').read_text())['frozen']
    assert json.loads((demo / 'out' / 'result_bilinear-deep.json').read_text())['frozen'] == kept


def test_another_seed_begins_anew(demo, tmp_path):
    shutil.copytree(demo / 'out', tmp_path / 'out')
    run = run_python(tmp_path, '--seed', '1', '--pictures', '1')
    assert run.code == 0, run.err[-4000:]
    trained = re.findall(r'\$ python tools/train.py (\S+)', run.out)
    assert [Path(config).name.split('_')[0] for config in trained] == ['mae', 'lspt', 'frozen']
    for name in ('mae', 'frozen'):
        config = next((tmp_path / 'out' / name).glob('*.py'))
        assert 'seed=1' in config.read_text()
