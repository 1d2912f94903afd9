"""Runs do what their command says, or say what keeps them from it."""

import shutil

import pytest
import torch
from filelock import FileLock
from miniatures import (
    CONFIGS,
    once,
    refused,
    run_ok,
    run_tool,
    save_image,
    write_classification,
    write_segmentation,
)

from lspt_mm.config.load import read_config, read_config_file
from lspt_mm.datasets import ImageFolder
from lspt_mm.engine.work_dir import latest_checkpoint
from lspt_mm.errors import InputError


@pytest.fixture(scope='module')
def mini(tmp_path_factory):
    """A run of four iterations."""

    def make(folder):
        config = write_segmentation(folder).config
        run = train(config, folder)
        assert run.code == 0, run.err[-3000:]

    return once(tmp_path_factory, 'settings_of_runs', make)


def train(config, folder, *more):
    return run_tool('train.py', config, '--work-dir', folder / 'work', '--no-check', *more,
                    cwd=folder)




# ---- what a checkpoint would override ---------------------------------------------------------


@pytest.mark.parametrize(
    ('changed', 'words'),
    [
        (['optim_wrapper.optimizer.lr=0.123'], ['lr is', '0.123 here']),
        (['param_scheduler.0.end=50', 'train_cfg.max_iters=50'], ['PolyLR.end is', '50 here']),
        *(pytest.param([option], words, marks=pytest.mark.slow) for option, words in (
            ('optim_wrapper.optimizer.weight_decay=0.77', ['weight_decay is', '0.77 here']),
            ('param_scheduler.0.power=3', ['PolyLR.power is', '3 here']),
            ('randomness.seed=7', ['randomness.seed is', '7 here']),
        )),
    ],
)
def test_settings_that_would_have_no_effect(changed, words, mini, tmp_path):
    shutil.copytree(mini / 'work', tmp_path / 'work')
    before = sorted(path.name for path in (tmp_path / 'work').glob('*.pth'))
    run = train(mini / 'mini_seg.py', tmp_path, '--resume', '--cfg-options', *changed)
    refused(run, *words, 'load_from=')
    assert sorted(path.name for path in (tmp_path / 'work').glob('*.pth')) == before


def test_another_precision_or_clipping(mini, tmp_path):
    shutil.copytree(mini / 'work', tmp_path / 'work')
    run = train(mini / 'mini_seg.py', tmp_path, '--resume', '--amp', '--cfg-options',
                'optim_wrapper.clip_grad.max_norm=1.0')
    refused(run, 'optim_wrapper.type is OptimWrapper there, Bf16OptimWrapper here',
            "optim_wrapper.clip_grad is {} there, {'max_norm': 1.0} here")


def test_other_data_or_another_model(mini, tmp_path):
    shutil.copytree(mini / 'work', tmp_path / 'work')
    run = train(mini / 'mini_seg.py', tmp_path, '--resume', '--cfg-options',
                'train_dataloader.batch_size=3',
                'train_dataloader.dataset.pipeline.2.keep_ratio=True',
                'model.backbone.prompter.dropout=0.25', 'model.decode_head.dropout_ratio=0.25')
    refused(run, 'train_dataloader.batch_size is 2 there, 3 here',
            'train_dataloader.dataset.pipeline.2.keep_ratio is false there, true here',
            'model.backbone.prompter.dropout is 0.0 there, 0.25 here',
            'model.decode_head.dropout_ratio is 0.0 there, 0.25 here')


def test_what_may_change_on_resume(mini, tmp_path):
    shutil.copytree(mini / 'work', tmp_path / 'work')
    shutil.copytree(mini / 'ADEChallengeData2016', tmp_path / 'moved')
    shutil.copy(mini / 'tiny_vit.pth', tmp_path / 'other_name.pth')
    run = train(mini / 'mini_seg.py', tmp_path, '--resume', '--data-root', tmp_path / 'moved',
                '--pretrained', tmp_path / 'other_name.pth', '--cfg-options',
                'train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=True',
                'train_dataloader.pin_memory=False', 'model.backbone.with_cp=True',
                'model.test_cfg.mode=whole', 'log_level=DEBUG', 'val_dataloader.batch_size=2',
                'default_hooks.checkpoint.interval=3')
    assert run.code == 0, run.err[-2000:]


def test_a_run_without_a_seed_takes_the_checkpoints(mini, tmp_path):
    shutil.copytree(mini / 'work', tmp_path / 'work')
    run = train(mini / 'mini_seg.py', tmp_path, '--resume', '--cfg-options', 'randomness.seed=None',
                'train_cfg.max_iters=5')
    assert run.code == 0, run.err[-2000:]


def test_a_rate_that_is_zero_to_the_end(mini, tmp_path):
    run = train(mini / 'mini_seg.py', tmp_path, '--cfg-options', 'train_cfg.max_iters=9000')
    refused(run, 'PolyLR ends with a learning rate of 0 at 8 of 9000')


# ---- one work dir, one run --------------------------------------------------------------------


def test_a_second_run_in_a_work_dir(mini, tmp_path):
    (tmp_path / 'work').mkdir()
    with FileLock(tmp_path / 'work/.lock'):
        refused(train(mini / 'mini_seg.py', tmp_path), 'another run is at work there', '--work-dir')
        assert [path.name for path in (tmp_path / 'work').iterdir()] == ['.lock']
    run = train(mini / 'mini_seg.py', tmp_path, '--cfg-options', 'train_cfg.max_iters=1',
                'param_scheduler=[]')
    assert run.code == 0, run.err[-2000:]


def test_a_run_that_starts_over_takes_nothing_of_the_earlier_one(mini, tmp_path):
    work = tmp_path / 'work'
    shutil.copytree(mini / 'work', work)
    before = (work / 'iter_4.pth').read_bytes()
    (work / 'validation.json').write_text('{}')
    more = ['--cfg-options', 'train_cfg.max_iters=1', 'param_scheduler=[]',
            'optim_wrapper.optimizer.lr=0.5']
    refused(train(mini / 'mini_seg.py', tmp_path, *more, 'model.decode_head=None'), 'be built')
    assert (work / 'iter_4.pth').read_bytes() == before
    run = train(mini / 'mini_seg.py', tmp_path, *more, 'default_hooks.checkpoint.save_last=False')
    assert run.code == 0 and 'earlier run' in run.out + run.err, run.err[-2000:]
    assert latest_checkpoint(work) is None  # of the run whose config is in the folder
    assert (work / 'earlier_iter_4.pth').read_bytes() == before
    assert (work / 'earlier_validation.json').read_text() == '{}'
    run = train(mini / 'mini_seg.py', tmp_path, *more, '--resume')
    assert run.code == 0 and latest_checkpoint(work) == str(work / 'iter_1.pth'), run.err[-2000:]


# ---- options ----------------------------------------------------------------------------------


def test_one_image_for_batch_normalisation(mini, tmp_path):
    run = train(mini / 'mini_seg.py', tmp_path, '--cfg-options', 'train_dataloader.batch_size=1')
    refused(run, 'batch_size=1', 'two images')


@pytest.mark.slow
def test_options_that_a_hook_passes_on(mini, tmp_path):
    run = train(mini / 'mini_seg.py', tmp_path, '--cfg-options', 'default_hooks.ema.type=EMAHook',
                'default_hooks.ema.momentum=0.25')
    assert run.code == 0, run.err[-2000:]
    found = torch.load(tmp_path / 'work/iter_4.pth', weights_only=False)
    assert 'ema_state_dict' in found
    run = train(mini / 'mini_seg.py', tmp_path, '--cfg-options', 'default_hooks.ema.type=EMAHook',
                'default_hooks.ema.momentun=0.25')
    refused(run, 'momentun', 'momentum')


@pytest.mark.parametrize(
    ('base', 'key', 'value'),
    [
        ('mmseg::_base_/datasets/pascal_voc12.py', 'dataset_type', 'PascalVOCDataset'),
        ('mmseg::_base_/default_runtime.py', 'log_level', 'INFO'),
        ('mmpretrain::_base_/datasets/cub_bs8_384.py', 'dataset_type', 'CUB'),
    ],
)
def test_bases_of_mmseg_and_mmpretrain(base, key, value, tmp_path):
    (tmp_path / 'config.py').write_text(f'_base_ = [{base!r}]\n')
    assert read_config_file(tmp_path / 'config.py')[key] == value


# ---- classes that differ between splits -------------------------------------------------------


@pytest.mark.parametrize(
    ('val', 'words'),
    [
        (('ant', 'cat', 'dog'), ['has dog', 'lacks bee']),
        pytest.param(('ant', 'bee', 'Cat'), ['has Cat', 'lacks cat'], marks=pytest.mark.slow),
        pytest.param(('ant', 'bee', 'cat', 'x'), ['4 sub-folders'], marks=pytest.mark.slow),
    ],
)
def test_other_class_folders_in_val(val, words, tmp_path):
    mini = write_classification(tmp_path)
    for path, name in zip(sorted((mini.data / 'val').iterdir()), val, strict=False):
        path.rename(mini.data / 'val' / f'new {name}')
    for path in list((mini.data / 'val').iterdir()):
        path.rename(mini.data / 'val' / path.name.removeprefix('new '))
    if len(val) > 3:
        save_image(mini.data / 'val' / val[3] / 'one.jpg')
    more = ['--cfg-options', 'model.head.num_classes=3']
    run = run_tool('train.py', mini.config, '--work-dir', tmp_path / 'w', *more, cwd=tmp_path)
    refused(run, *words)


@pytest.mark.parametrize(
    'name',
    ['.ipynb_checkpoints',
     *(pytest.param(name, marks=pytest.mark.slow) for name in ('@eaDir', '__MACOSX'))],
)
def test_hidden_folders_are_no_classes(name, tmp_path):
    mini = write_classification(tmp_path)
    shutil.copytree(mini.data / 'train/ant', mini.data / 'train' / name)
    shutil.copytree(mini.data / 'train/ant', mini.data / 'train/bee' / name)
    run_ok('train.py', mini.config, '--work-dir', tmp_path / 'w', '--cfg-options',
                   'train_cfg.max_epochs=1', cwd=tmp_path)
    data = ImageFolder(data_root=str(mini.data), data_prefix='train')
    assert data.metainfo['classes'] == ('ant', 'bee', 'cat') and len(data) == 12


def test_another_number_of_classes_than_folders(tmp_path):
    mini = write_classification(tmp_path)
    with pytest.raises(InputError, match='3 folders, expected one for each of the 2 classes'):
        ImageFolder(data_root=str(mini.data), data_prefix='train', metainfo={'classes': ['a', 'b']})


def test_a_vit_of_ones_own():
    def read(arch):
        arguments = f'task=eurosat,arch={arch},img_size=64'
        return read_config(f'{CONFIGS / "vtab1k/transfer.py"}:{arguments}')

    sizes = "{'embed_dims':64,'num_layers':4,'num_heads':2,'feedforward_channels':256}"
    cfg = read(sizes)
    assert cfg.model.backbone.arch.embed_dims == cfg.model.head.in_channels == 64
    for wrong in ("{'embed_dims':64}", 'tiny'):
        with pytest.raises(InputError, match='arch=.*expected .*a dict'):
            read(wrong)
