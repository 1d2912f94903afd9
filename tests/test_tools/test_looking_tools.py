"""browse_dataset, analyze_logs, get_flops and openmmlab: what they draw, say and count."""

import csv
import json
import os

import numpy as np
import pytest
from miniatures import (
    ARCH,
    CONFIGS,
    once,
    run_command,
    run_ok,
    run_tool,
    write_classification,
    write_segmentation,
)
from PIL import Image


@pytest.fixture(scope='module')
def seg(tmp_path_factory):
    return once(tmp_path_factory, 'looking_seg', write_segmentation)


@pytest.fixture(scope='module')
def cls(tmp_path_factory):
    return once(tmp_path_factory, 'looking_cls', write_classification)


def pictures(folder):
    return {p.name: np.asarray(Image.open(p).convert('RGB')) for p in sorted(folder.glob('*.png'))}


# ---- browse_dataset ---------------------------------------------------------------------------


def test_browse_draws_masks_behind_the_training_pipeline(seg, tmp_path):
    run = run_ok(
        'visualization/browse_dataset.py', seg / 'mini_seg.py', '--not-show', '--out', 'out',
        '--number', 3, cwd=tmp_path,
    )
    assert '3 of 4 images of train' in run.out
    drawn = pictures(tmp_path / 'out')
    assert list(drawn) == [f'{i:05d}_training_{i}.png' for i in range(3)]
    # 40 x 48 pixels on disk, 32 x 32 behind the pipeline.
    assert {picture.shape for picture in drawn.values()} == {(32, 32, 3)}


def test_browse_mixes_the_image_with_its_classes_colours(tmp_path):
    # Images of one colour and one class: a picture's colour is a blend of the image's and the
    # class's. Class 1 of the files is the first one.
    from mmseg.utils import ade_palette

    palette = ade_palette()
    for number in (1, 9):
        image = tmp_path / f'scenes/images/training/s{number}.jpg'
        label = tmp_path / f'scenes/annotations/training/s{number}.png'
        for path in (image, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (128, 128), (200, 60, 20)).save(image, quality=100, subsampling=0)
        Image.new('L', (128, 128), number).save(label)
    run_ok(
        'visualization/browse_dataset.py', CONFIGS / 'lspt_upernet_ade20k.py', '--not-show',
        '--out', 'out', '--data-root', 'scenes', '--cfg-options',
        'model.data_preprocessor.bgr_to_rgb=False',  # pictures do not depend on it
        "train_dataloader.dataset.pipeline.2.ratio_range='(1.0,1.0)'",
        *(f'train_dataloader.dataset.pipeline.5.{key}' for key in (
            'brightness_delta=0', 'contrast_range=(1.0,1.0)', 'saturation_range=(1.0,1.0)',
            'hue_delta=1',  # 2 degrees
        )), cwd=tmp_path,
    )
    for name, picture in pictures(tmp_path / 'out').items():
        colour = np.array(palette[int(name.split('_s')[1][:-4]) - 1], float)
        found = picture[2, 2].astype(float)  # away from the name of the class in the middle
        # Between image (red above blue: not swapped) and colour of the class, at one ratio.
        weights = (found - colour) / (np.array([200, 60, 20]) - colour)
        assert np.ptp(weights) < 0.05 and 0.1 < weights.mean() < 0.9


def test_browse_writes_the_class_on_the_image(cls, tmp_path):
    run_ok(
        'visualization/browse_dataset.py', cls / 'mini_cls.py', '--split', 'val', '--not-show',
        '--out', 'out', cwd=tmp_path,
    )
    drawn = pictures(tmp_path / 'out')
    assert len(drawn) == 6
    first = Image.open(cls / 'images/val/ant/ant_0.jpg').convert('RGB')
    left, top = (48 - 32) // 2, (40 - 32) // 2
    crop = np.asarray(first.crop((left, top, left + 32, top + 32)).resize((256, 256)), float)
    picture = drawn['00000_ant_0.png'].astype(float)
    assert picture.shape == crop.shape
    difference = np.abs(picture - crop).mean(-1)
    # Text is drawn at the top; below, it is the image, red and blue in their places.
    assert difference[:40, :100].mean() > 1.5 * difference[100:].mean()
    swapped = np.abs(picture[100:] - crop[100:, :, ::-1]).mean()
    assert swapped > 2 * difference[100:].mean()


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (['vtab1k/lspt_mae_eurosat'], 'folder data/vtab-1k'),
        (['vtab1k/lspt_mae_nowhere'], 'nowhere'),
        (['{seg}', '--number', '0'], '--number 0'),
        (['{seg}', '--split', 'test', '--data-root', 'gone'], 'folder gone'),
    ],
)
def test_browse_says_what_is_wrong(arguments, told, seg, tmp_path):
    arguments = [str(seg / 'mini_seg.py') if a == '{seg}' else a for a in arguments]
    run = run_tool('visualization/browse_dataset.py', *arguments, '--not-show', cwd=tmp_path)
    assert run.code == 2 and told in run.err and 'Traceback' not in run.err


# ---- analyze_logs -----------------------------------------------------------------------------


def write_logs(folder):
    ours = [
        {'mode': 'train', 'iter': 5, 'epoch': 0, 'lr': 0.1, 'loss': 3.0},
        {'mode': 'train', 'iter': 10, 'epoch': 0, 'lr': 0.05, 'loss': 1.5},
        {'mode': 'val', 'iter': 10, 'epoch': 0, 'mIoU': 20.5},
        {'mode': 'train', 'iter': 15, 'epoch': 0, 'lr': 0.0, 'loss': 2.0},
        {'mode': 'val', 'iter': 15, 'epoch': 0, 'mIoU': 18.0},
    ]
    theirs = [
        {'lr': 0.1, 'data_time': 0.1, 'loss': 2.5, 'time': 1.0, 'iter': 4, 'step': 4},
        {'mIoU': 11.0, 'data_time': 0.1, 'time': 0.2, 'step': 1},  # epochs are counted
        {'lr': 0.1, 'loss': float('nan'), 'time': 1.0, 'iter': 8, 'step': 8},
    ]
    for path, lines in (('ours/log.jsonl', ours), ('theirs/vis_data/scalars.json', theirs)):
        (folder / path).parent.mkdir(parents=True)
        torn = '\n{"mode": "train", "it'
        (folder / path).write_text('\n'.join(map(json.dumps, lines)) + torn)


def test_logs_of_both_kinds_side_by_side(tmp_path):
    write_logs(tmp_path)
    run = run_ok(
        'analysis_tools/analyze_logs.py', 'ours', 'theirs/vis_data/scalars.json', '--names', 'A',
        'B', '--out', 'x/curves', cwd=tmp_path,
    )
    with open(tmp_path / 'x/curves.csv', newline='') as file:
        rows = list(csv.reader(file))[1:]
    assert rows == [
        ['A', 'loss', '5', '3.0'], ['A', 'loss', '10', '1.5'], ['A', 'loss', '15', '2.0'],
        ['B', 'loss', '4', '2.5'],
        ['A', 'mIoU', '10', '20.5'], ['A', 'mIoU', '15', '18.0'], ['B', 'mIoU', '4', '11.0'],
    ]
    lines = [line.split() for line in run.out.splitlines()]
    assert ['A', 'loss', '3', '2', '15', '1.5', '10', '3', '5'] in lines
    assert ['A', 'mIoU', '2', '18', '15', '18', '15', '20.5', '10'] in lines
    with Image.open(tmp_path / 'x/curves.png') as picture:
        assert picture.size == (840, 720)  # two panels


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (['ours', '--keys', 'mAcc'], 'mAcc: in none of the logs, which have: loss, lr, mIoU'),
        (['nowhere'], 'nowhere'),
        (['theirs'], 'there is no log.jsonl'),
        (['ours', 'ours'], '2 runs need as many different names'),
        (['ours', '--names', 'a', 'b'], '1 runs need as many different names'),
        (['empty.json'], 'no line of a log'),
    ],
)
def test_logs_that_are_none(arguments, told, tmp_path):
    write_logs(tmp_path)
    (tmp_path / 'empty.json').write_text('[1]\nx\n')
    run = run_tool('analysis_tools/analyze_logs.py', *arguments, cwd=tmp_path)
    assert run.code == 2 and 'Traceback' not in run.err
    assert told in run.err


def test_folders_without_a_log_are_left_out_and_named(tmp_path):
    write_logs(tmp_path)
    run = run_ok(
        'analysis_tools/analyze_logs.py', 'theirs', 'ours', 'nowhere', '--out', 'c', cwd=tmp_path
    )
    assert 'left out: theirs: there is no log.jsonl' in run.err and 'nowhere' in run.err
    with open(tmp_path / 'c.csv', newline='') as file:
        assert {row[0] for row in list(csv.reader(file))[1:]} == {'ours'}


@pytest.mark.slow
def test_an_interrupted_run_is_one_curve_in_our_log_and_pieces_in_theirs(seg, tmp_path):
    """The loss of a run that was ended by SIGTERM and resumed is that of one left alone."""
    import signal
    import subprocess
    import sys
    import time

    from miniatures import TOOLS

    options = [
        '--cfg-options', 'train_cfg.max_iters=60', 'train_cfg.val_interval=30',
        'default_hooks.run_log.interval=1', 'default_hooks.checkpoint.interval=20',
        'param_scheduler.0.end=100',
    ]
    train = [sys.executable, TOOLS / 'train.py', seg / 'mini_seg.py']
    alone = run_command(*train, '--work-dir', 'alone', *options, cwd=tmp_path)
    assert alone.code == 0, alone.err
    command = list(map(str, [*train, '--work-dir', 'stopped', *options]))
    # As many threads as run_command gives: another number rounds sums otherwise.
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
    )
    log = tmp_path / 'stopped/log.jsonl'
    deadline = time.monotonic() + 300
    while not (log.is_file() and log.read_text().count('\n') >= 8):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    assert run_command(*command, '--resume', cwd=tmp_path).code == 0
    files = sorted((tmp_path / 'stopped').glob('*/vis_data/scalars.json'))
    assert len(files) == 2
    run_ok(
        'analysis_tools/analyze_logs.py', 'alone', 'stopped', *files, '--keys', 'loss', 'mIoU',
        '--out', 'curves', cwd=tmp_path,
    )
    with open(tmp_path / 'curves.csv', newline='') as file:
        rows = list(csv.reader(file))[1:]
    curves = {}
    for name, key, at, value in rows:
        curves.setdefault((name, key), []).append((at, value))
    assert curves['alone', 'loss'] == curves['stopped', 'loss']
    assert curves['alone', 'mIoU'] == curves['stopped', 'mIoU']
    assert [at for at, _ in curves['stopped', 'loss']] == [str(i + 1) for i in range(60)]
    pieces = [len(curves[str(file), 'loss']) for file in files]
    assert all(0 < piece < 60 for piece in pieces)


# ---- get_flops --------------------------------------------------------------------------------

D, HIDDEN, L = ARCH['embed_dims'], ARCH['feedforward_channels'], ARCH['num_layers']


def block(asking, read, of_image=None):
    """FLOPs of a block: ``asking`` tokens ask ``read`` ones, keys of ``of_image`` are made."""
    of_image = read if of_image is None else of_image
    linear = 2 * asking * D * D + 2 * of_image * D * D + 2 * asking * D * HIDDEN
    return 2 * linear + 4 * asking * read * D


def expected(prompter, side, p=3):
    """Of the classification miniature: 3 prompts, patches of 8, a class token that is read."""
    n = (side // 8) ** 2
    x = n + 1
    embedding = 2 * n * D * 3 * 8 * 8
    if prompter is None:
        return embedding + (L - 1) * block(x, x) + block(1, x)
    if prompter == 'VPT-deep':  # read only, their keys and values are kept
        return embedding + (L - 1) * block(x, x + p, x) + block(1, x + p, x)
    # LSPT: prompts ask in all blocks but the last; U h in L-1 steps, W P is kept.
    cell = (L - 1) * 2 * p * 4 * D * D
    return embedding + (L - 1) * block(x + p, x + p) + block(1, x + p) + cell


@pytest.mark.parametrize('side', [32, 64])
@pytest.mark.parametrize('name', ['LSPT', 'VPT-deep', None])
def test_flops_are_those_of_the_equations(name, side, cls, tmp_path):
    config = tmp_path / 'config.py'
    prompter = {
        'LSPT': "dict(_delete_=True, type='LSPT', num_tokens=3)", None: 'None',
        'VPT-deep': "dict(_delete_=True, type='VPT', num_tokens=3, deep=True)",
    }[name]
    base = str(cls / 'mini_cls.py')
    config.write_text(
        f"_base_ = {base!r}\nmodel = dict(backbone=dict(out_type='cls_token', prompter={prompter}))"
    )
    run = run_ok(
        'analysis_tools/get_flops.py', config, '--shape', side, '--json', 'costs.json', cwd=tmp_path
    )
    costs = json.loads((tmp_path / 'costs.json').read_text())
    assert costs['flops'] == {'backbone': expected(name, side), 'head': 2 * D * 3}
    trained = {'LSPT': 4 * 3 * D + 8 * D * D + 8 * D, 'VPT-deep': 4 * 3 * D, None: 0}[name]
    assert costs['trainable'].get('backbone.prompter', 0) == trained
    assert costs['trainable']['head'] == 3 * D + 3 and costs['trainable']['backbone'] == 0
    total = sum(costs['parameters'].values())
    assert run.out.splitlines()[-1].split()[:3] == ['all', f'{trained + 3 * D + 3:,}', f'{total:,}']


def test_flops_of_a_segmentor_leave_out_what_only_trains(seg, tmp_path):
    run_ok(
        'analysis_tools/get_flops.py', seg / 'mini_seg.py', '--json', 'costs.json', cwd=tmp_path
    )
    costs = json.loads((tmp_path / 'costs.json').read_text())
    assert costs['size'] == [32, 32]
    assert set(costs['flops']) == {'backbone', 'neck', 'decode_head'}
    assert costs['trainable']['auxiliary_head'] > 0


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        ([CONFIGS / 'pretrain/mae_vit_tiny_160px.py'], 'a model of type MAE'),
        (['{seg}', '--shape', '1', '2', '3'], '--shape [1, 2, 3]'),
        (['{seg}', '--shape', '0'], '--shape [0]'),
        (['{seg}', '--shape', '4'], 'does not take an image of (4, 4)'),
        (['nowhere.py'], 'config file nowhere.py does not exist'),
    ],
)
def test_flops_say_what_is_wrong(arguments, told, seg, tmp_path):
    arguments = [seg / 'mini_seg.py' if a == '{seg}' else a for a in arguments]
    run = run_tool('analysis_tools/get_flops.py', *arguments, cwd=tmp_path)
    assert run.code == 2 and told in run.err and 'Traceback' not in run.err


# ---- openmmlab --------------------------------------------------------------------------------


def test_their_tool_gets_a_cell_as_a_file(tmp_path):
    from mmengine.config import Config

    from lspt_mm.config.load import read_config

    cell = 'vtab1k/vpt-deep_mae_dtd:lr=0.125'
    run_ok('misc/openmmlab.py', 'mmseg', 'print_config', cell, cwd=tmp_path)
    found = Config.fromfile(tmp_path / 'example.py')  # which that tool writes
    assert found.to_dict() == read_config(cell).to_dict()
    assert found.optim_wrapper.optimizer.lr == 0.125


def test_their_confusion_matrix_is_that_of_our_test(cls, tmp_path):
    config = cls / 'mini_cls.py'
    assert run_tool('train.py', config, '--work-dir', 'run', cwd=tmp_path).code == 0
    run_ok(
        'misc/openmmlab.py', 'mmpretrain', 'confusion_matrix', config, 'run/epoch_2.pth', '--out',
        'matrix.pkl', '--show-path', 'matrix.png', cwd=tmp_path,
    )
    import pickle

    matrix = pickle.loads((tmp_path / 'matrix.pkl').read_bytes())
    assert matrix.sum(1).tolist() == [2, 2, 2]  # images of each class
    run_ok('test.py', config, 'run/epoch_2.pth', '--work-dir', 'test', cwd=tmp_path)
    (metrics,) = (tmp_path / 'test').glob('*/*.json')
    top1 = json.loads(metrics.read_text())['accuracy/top1']
    assert 100 * matrix.diagonal().sum().item() / 6 == pytest.approx(top1, abs=1e-3)


def test_openmmlab_lists_and_refuses(tmp_path):
    run = run_tool('misc/openmmlab.py', 'mmseg', cwd=tmp_path)
    assert run.code == 0 and {'print_config', 'train'} <= set(run.out.split())
    run = run_tool('misc/openmmlab.py', 'mmseg', 'brows_dataset', cwd=tmp_path)
    assert run.code == 2 and "no tool 'brows_dataset'" in run.err
    run = run_tool('misc/openmmlab.py', 'mmdet', cwd=tmp_path)
    assert run.code == 2 and 'expected one of mmseg, mmpretrain' in run.err
