"""tools/search.py on a miniature folder of images, with real training in other processes."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import timm
import torch
from miniatures import CONFIGS, TOOLS, once, refused, run_ok, run_tool, write_image_folder

TINY = 'arch=deit-tiny,img_size=32,patch_size=8,num_tokens=2,epochs=1,batch_size=6'
LOADERS = [
    f'{name}_dataloader.{key}'
    for name in ('train', 'val', 'test')
    for key in ('num_workers=0', 'persistent_workers=False')
]


def prepare(folder):
    """Images of three classes in the layout of prepare.py."""
    write_image_folder(folder / 'images', train=5, val=2)
    shutil.copytree(folder / 'images/val', folder / 'images/test')
    run_ok(
        'dataset_converters/prepare.py', 'imagefolder', '--from', folder / 'images',
        '--val-share', '0.2', '--to', folder / 'data', cwd=folder,
    )
    return folder / 'data'


def arguments(data, work, *more, method='vpt', lrs='0.01,0.1', seeds=(1,)):
    config = f'{CONFIGS / "imagefolder/transfer.py"}:task={data},method={method},{TINY}'
    return [
        config, '--grid', f'lr={lrs}', '--seeds', *map(str, seeds), '--random-backbone',
        '--work-dir', work, '--cfg-options', *LOADERS, *more,
    ]


def listed(run):
    """What a dry run prints, without the chatter of imports."""
    assert run.code == 0, run.err
    return [line for line in run.out.splitlines() if line.startswith('w/')]


def results(work):
    with open(work / 'results.csv', newline='') as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return once(tmp_path_factory, 'search_data', prepare) / 'data'


@pytest.fixture(scope='module')
def searched(tmp_path_factory):
    """Selected while the test images could not be read; tested when they could."""

    def make(folder):
        data = prepare(folder)
        tests = [data / name for name in json.loads((data / 'test.json').read_text())]
        originals = {path: path.read_bytes() for path in tests}
        for path in tests:
            path.write_bytes(b'not an image')
        args = arguments(data, folder / 'work')
        run = run_ok('search.py', *args, '--select-only', cwd=folder)
        (folder / 'selected.csv').write_bytes((folder / 'work/results.csv').read_bytes())
        for path, content in originals.items():
            path.write_bytes(content)
        run = run_ok('search.py', *args, cwd=folder)
        (folder / 'out.txt').write_text(run.out)

    return once(tmp_path_factory, 'searched', make)


@pytest.mark.slow
def test_the_test_images_are_not_read_before_the_choice(searched):
    """The selection ran while every test image was rubbish."""
    selected = (searched / 'selected.csv').read_text().splitlines()
    assert len(selected) == 3
    whole = (searched / 'work/results.csv').read_text().splitlines()
    assert whole[:3] == selected
    assert len(whole) == 4


@pytest.mark.slow
def test_results_say_what_was_run(searched):
    rows = results(searched / 'work')
    assert [(r['phase'], r['split']) for r in rows] == [('selection', 'val')] * 2 + [
        ('final', 'test')
    ]
    # VPT-shallow: 2 prompts of 192; the head: 3 classes of 192, and 3 biases.
    assert {(r['prompts'], r['backbone'], r['head']) for r in rows} == {('384', '0', '579')}
    assert 'test top-1' in (searched / 'out.txt').read_text()
    result = json.loads((searched / 'work/final/seed=1/result.json').read_text())
    assert result['prompter'] == 'VPT'


@pytest.mark.slow
def test_confusion_matrix_counts_every_test_image(searched):
    lines = (searched / 'work/final/seed=1/confusion.csv').read_text().splitlines()
    matrix = [[*map(int, line.split(','))] for line in lines]
    assert [sum(line) for line in matrix] == [2, 2, 2]
    right = sum(matrix[i][i] for i in range(3))
    accuracy = float(results(searched / 'work')[-1]['accuracy'])
    assert accuracy == pytest.approx(100 * right / 6, abs=1e-3)


@pytest.mark.slow
def test_final_models_are_trained_on_train_and_val(searched):
    """15 training images of which a fifth are validated on: 12 and 15 an epoch, in sixes."""
    selection = (searched / 'work/selection/lr=0.01/log.txt').read_text()
    final = (searched / 'work/final/seed=1/log.txt').read_text()
    assert 'Epoch(train) [1][2/2]' in selection
    assert 'Epoch(train) [1][3/3]' in final
    assert 'Epoch(val)' in selection
    assert 'Epoch(val)' not in final
    assert 'Epoch(test)' in final


@pytest.mark.slow
def test_table_and_curves(searched):
    run = run_ok('analysis_tools/table.py', searched / 'work', cwd=searched)
    row = '| VPT-shallow | random | deit-tiny/8, 32 px, fitted head | 0.000 | 1 | ours |'
    assert row in run.out
    runs = sorted((searched / 'work/selection').glob('*/run'))
    run = run_ok('analysis_tools/analyze_logs.py', *runs, '--keys', 'accuracy/top1', '--out',
                   searched / 'curves', cwd=searched)
    chosen = json.loads((searched / 'work/search.json').read_text())['validation_accuracy']
    rows = (searched / 'curves.csv').read_text().splitlines()[1:]
    assert len(rows) == len(runs)
    assert max(float(row.split(',')[-1]) for row in rows) == pytest.approx(chosen)


def test_dry_run_lists_the_runs(data, tmp_path):
    two = arguments(data, 'w', seeds=(1, 2))
    run = run_tool('search.py', *two, '--dry-run', cwd=tmp_path)
    assert listed(run) == [
        'w/selection/lr=0.01', 'w/selection/lr=0.1', 'w/final/seed=1', 'w/final/seed=2'
    ]
    assert not (tmp_path / 'w').exists()
    run = run_tool('search.py', 'lspt_upernet_ade20k', '--grid',
                   'optim_wrapper.optimizer.lr=0.001,0.002', '--select-only', '--dry-run',
                   cwd=tmp_path)
    assert run.code == 0 and 'work_dirs/lspt_upernet_ade20k_search/selection/' in run.out


@pytest.mark.parametrize(
    ('more', 'said'),
    [
        (['--grid', 'lr'], '--grid lr: expected NAME=VALUE'),
        (['--grid', 'lr=0.1', 'lr=0.2'], 'lr is given twice'),
        (['--grid', 'epochs=3'], 'the config already has epochs=1'),
        (['--grid', 'learning_rate=3'], "no argument 'learning_rate'"),
        (['--grid', 'optim_wrapper.optimizer.rate=3'], "optim_wrapper.optimizer has no 'rate'"),
        (['--seeds', '1', '1'], r'seeds \[1, 1\]: expected different integers'),
        (['--grid', '=1'], '--grid =1: expected NAME=VALUE'),
        (['--grid', 'lr=0.1,1e-1'], '2 points are lr=0.1'),
        (['--grid', 'lr=0.1,abc', '--dry-run'], "lr='abc': expected a number"),
        (['--grid', 'weight_decay=0,-1', '--dry-run'], 'weight_decay=-1: expected'),
        (['--work-dir', __file__], 'cannot be written: .*File exists'),
        (['--launcher-options', 'x=1'], 'only with --launcher slurm'),
        (['--pretrained', 'nowhere.pth'], 'nowhere.pth'),
        (['--grid', 'none', '--select-only'], 'nothing to run'),
        (['--jobs', '-1'], 'expected at least 1'),
        (['--cfg-options', 'optim_wrapper.optimizer.lr=0.3'], 'varies it .0.01, 0.1.'),
    ],
)
def test_input_errors(data, more, said, tmp_path):
    args = arguments(data, tmp_path / 'w')
    if '--pretrained' in more:
        args.remove('--random-backbone')
    if '--grid' in more:
        del args[1:3]
    run = run_tool('search.py', *args, *more, cwd=tmp_path)
    assert run.code == 2, run.err[-2000:]
    assert re.search(said, run.err), run.err[-2000:]
    assert 'Traceback' not in run.err


def test_a_grid_that_the_config_does_not_use(data, tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'lspt_mm::imagefolder/transfer.py'\n"
        "own = dict(_delete_=True, type='lspt_mm.VPT', num_tokens=3)\n"
        'model = dict(backbone=dict(prompter=own))'
    )
    args = arguments(data, 'w', lrs='0.1,0.2')
    args[0] = args[0].replace(str(CONFIGS / 'imagefolder/transfer.py'), 'mine.py')
    args[0] = args[0].replace('num_tokens=2,', '')
    run = run_tool('search.py', *args, '--dry-run', cwd=tmp_path)
    assert len(listed(run)) == 3, run.err
    run = run_tool('search.py', *args, '--grid', 'num_tokens=2,4', '--dry-run', cwd=tmp_path)
    refused(run, '--grid num_tokens: this config gives the same run for 2, 4')
    key = 'model.backbone.prompter.num_tokens'
    run = run_tool('search.py', *args, '--grid', f'{key}=2,4', '--dry-run', cwd=tmp_path)
    assert len(listed(run)) == 5, run.err


@pytest.mark.slow
def test_final_checkpoints_are_tested_by_the_config_beside_them(searched, tmp_path):
    run = searched / 'work/final/seed=1/run'
    checkpoint = run / 'epoch_1.pth'
    run_ok('test.py', run / 'config.py', checkpoint, '--work-dir', tmp_path, cwd=tmp_path)
    (file,) = tmp_path.glob('*/*.json')
    tested = json.loads(file.read_text())['accuracy/top1']
    assert tested == json.loads((run.parent / 'result.json').read_text())['accuracy']


def test_a_selection_without_a_grid(data, tmp_path):
    config = f'{CONFIGS / "imagefolder/transfer.py"}:task={data},method=linear'
    refused(run_tool('search.py', config, '--select-only', cwd=tmp_path), 'the grid is empty')


def test_what_the_user_fixed_is_not_searched(data, tmp_path):
    config = f'{CONFIGS / "imagefolder/transfer.py"}:task={data},head=paper,method=vpt,lr=0.2'
    run = run_tool(
        'search.py', config, '--dry-run', '--select-only', '--work-dir', 'w', cwd=tmp_path
    )
    assert listed(run) == [
        f'w/selection/weight_decay={v}' for v in ('0', '0.0001', '0.001', '0.01')
    ]


def test_one_search_at_a_time(data, tmp_path):
    from filelock import FileLock

    work = tmp_path / 'w'
    work.mkdir()
    with FileLock(work / '.lock'):
        run = run_tool('search.py', *arguments(data, work), cwd=tmp_path)
    assert run.code == 2
    assert 'another run is at work there' in run.err


def test_a_config_that_tests_on_its_validation_data(data, tmp_path):
    config = CONFIGS / 'classification/lspt_imagefolder.py'
    args = [config, '--grid', 'optim_wrapper.optimizer.lr=0.1', '--work-dir', tmp_path / 'w',
            '--data-root', data.parent / 'images', '--random-backbone', '--cfg-options',
            'model.head.num_classes=3']
    run = run_tool('search.py', *args, cwd=tmp_path)
    assert run.code == 2
    assert 'the test data of this config are its validation data' in run.err
    assert not (tmp_path / 'w').exists()


def test_missing_test_data_are_found_before_the_first_run(data, tmp_path):
    without = tmp_path / 'data'
    without.mkdir()
    for name in ('train.json', 'val.json', 'about.json', 'train'):
        (without / name).symlink_to((data / name).resolve())
    run = run_tool('search.py', *arguments(without, tmp_path / 'w'), cwd=tmp_path)
    assert run.code == 2
    assert 'test.json does not exist' in run.err
    assert not (tmp_path / 'w').exists()


@pytest.mark.slow
def test_killed_in_the_middle_and_started_again(searched, tmp_path):
    """The results file is that of a search that nobody killed; what was done is not repeated."""
    work = tmp_path / 'work'
    command = [sys.executable, TOOLS / 'search.py', *arguments(searched / 'data', work)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    first = work / 'selection/lr=0.01/result.json'
    begun = work / 'selection/lr=0.1/run'
    try:
        for _ in range(1200):
            if first.exists() and begun.exists():
                break
            assert process.poll() is None
            time.sleep(0.1)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    stamp = first.stat().st_mtime_ns
    assert not (work / 'selection/lr=0.1/result.json').exists()
    subprocess.run(command, check=True, env=environment)
    assert first.stat().st_mtime_ns == stamp
    again = (work / 'results.csv').read_bytes()
    assert again == (searched / 'work/results.csv').read_bytes()


@pytest.mark.slow
def test_interrupted_search_leaves_nothing_running(searched, tmp_path):
    work = tmp_path / 'work'
    command = [sys.executable, TOOLS / 'search.py', *arguments(searched / 'data', work)]
    process = subprocess.Popen(command, start_new_session=True)
    log = work / 'selection/lr=0.01/log.txt'
    for _ in range(600):
        if log.exists():
            break
        time.sleep(0.1)
    children = list_pids('--ppid', process.pid)  # the runs' process has a group of its own
    assert children
    process.terminate()
    assert process.wait(timeout=60) == 143
    left = children
    for _ in range(100):
        left = [pid for pid in children if list_pids('-p', pid)]
        if not left:
            break
        time.sleep(0.1)
    assert not left


def list_pids(*chosen):
    command = ['ps', '-o', 'pid=', *map(str, chosen)]
    return subprocess.run(command, capture_output=True, text=True).stdout.split()


@pytest.mark.slow
def test_methods_that_start_from_data(searched, tmp_path):
    args = arguments(searched / 'data', tmp_path / 'w', method='bilinear-deep', lrs='0.01')
    run_ok('search.py', *args, cwd=tmp_path)


@pytest.mark.slow
def test_full_fine_tuning_of_a_pretrained_vit(searched, tmp_path):
    vit = timm.create_model('deit_tiny_patch16_224', img_size=32, patch_size=8)
    torch.save({'model': vit.state_dict()}, tmp_path / 'vit.pth')
    args = arguments(searched / 'data', tmp_path / 'w', method='full', lrs='0.001')
    args[args.index('--random-backbone')] = f'--pretrained={tmp_path / "vit.pth"}'
    run_ok('search.py', *args, cwd=tmp_path)
