"""Bad input ends a tool with code 2 and one message that names it."""

import numpy as np
import pytest
import torch
from miniatures import (
    CONFIGS,
    once,
    refused,
    run_tool,
    save_image,
    save_label,
    write_ade20k,
    write_classification,
    write_segmentation,
)

PAPER = CONFIGS / 'lspt_upernet_ade20k.py'


@pytest.fixture(scope='module')
def seg(tmp_path_factory):
    return once(tmp_path_factory, 'seg', write_segmentation)


@pytest.fixture(scope='module')
def cls(tmp_path_factory):
    return once(tmp_path_factory, 'cls', write_classification)


def train(config, *arguments, cwd):
    return run_tool('train.py', config, '--work-dir', 'w', *arguments, cwd=cwd)


# ---- nothing is there -------------------------------------------------------------------------


def test_paper_config_on_an_empty_machine(tmp_path):
    run = train(PAPER, cwd=tmp_path)
    message = refused(
        run,
        # what: the folder with its layout, and the file
        'ADEChallengeData2016',
        'images/{training,validation}/*.jpg',
        'annotations/{training,validation}/*.png',
        'mae_pretrain_vit_base.pth',
        # where from
        'http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip',
        'https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth',
        # or elsewhere
        '--data-root',
        '--pretrained',
    )
    assert message.count('--data-root') == message.count('--pretrained') == 1
    assert not (tmp_path / 'w').exists()  # refused before anything was written


def test_data_are_there_but_not_the_weights(seg, tmp_path):
    run = train(PAPER, '--data-root', seg / 'ADEChallengeData2016', cwd=tmp_path)
    message = refused(run, 'mae_pretrain_vit_base.pth')
    assert 'folder' not in message and '--data-root' not in message


def test_weights_are_there_but_not_the_data(seg, tmp_path):
    run = train(PAPER, '--pretrained', seg / 'tiny_vit.pth', cwd=tmp_path)
    assert '--pretrained' not in refused(run, 'ADEChallengeData2016')


@pytest.mark.parametrize('name', ['classification/lspt_imagefolder', 'camvid/lspt_upernet_camvid',
                                  'pretrain/mae_vit_tiny_160px'])
def test_other_configs_on_an_empty_machine(name, tmp_path):
    refused(train(CONFIGS / f'{name}.py', cwd=tmp_path), 'data', '--data-root')


def test_a_test_without_a_checkpoint(seg):
    refused(run_tool('test.py', seg / 'mini_seg.py'), 'mini_seg.py: expected a checkpoint after a')


def test_pretrained_file_that_is_not_there(seg, tmp_path):
    run = train(seg / 'mini_seg.py', '--pretrained', 'typo.pth', cwd=tmp_path)
    refused(run, 'typo.pth', 'does not exist')


def test_pretrained_file_that_does_not_fit(seg, tmp_path):
    torch.save({'model': {'fc.weight': torch.zeros(2)}}, tmp_path / 'no_vit.pth')
    run = train(seg / 'mini_seg.py', '--pretrained', 'no_vit.pth', cwd=tmp_path)
    refused(run, 'no_vit.pth', 'fc.weight')


@pytest.fixture
def no_pretrained(seg, tmp_path):
    config = tmp_path / 'none.py'
    base = repr(str(seg / 'mini_seg.py'))
    config.write_text(f'_base_ = {base}\nmodel = dict(backbone=dict(pretrained=None))\n')
    return config


def test_no_pretrained_weights_named(no_pretrained, tmp_path):
    refused(train(no_pretrained, cwd=tmp_path), '--pretrained', '--random-backbone')


def test_runner_val_does_not_judge_a_random_vit(no_pretrained, tmp_path):
    # By the API, where no tool looks after it: mmengine's val() never calls init_weights.
    script = tmp_path / 'val.py'
    script.write_text(
        'import lspt_mm\n'
        'from mmengine.config import Config\n'
        'from mmengine.runner import Runner\n'
        'from lspt_mm.engine.runner import prepare_for_cpu\n'
        'from lspt_mm.utils.cli import input_errors_as_messages\n'
        f'cfg = Config.fromfile({str(no_pretrained)!r})\n'
        "cfg.work_dir, cfg.launcher = 'w', 'none'\n"
        'prepare_for_cpu(cfg)\n'
        'with input_errors_as_messages():\n'
        '    Runner.from_cfg(cfg).val()\n'
    )
    refused(run_tool(script, cwd=tmp_path), 'backbone', 'random', '--random-backbone')


# ---- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('option', 'named'),
    [
        ('trian_cfg.max_iters=1', ['trian_cfg', 'train_cfg']),
        ('data_root=elsewhere', ['data_root', '--data-root']),
        ('model.backbone.prompter.cell=ful', ['ful', 'full', 'low-rank', 'diagonal']),
        ('model.backbone.prompter.type=LSTP', ['LSTP', 'LSPT']),
        ('model.backbone.tune=promts', ['promts', 'prompts']),
        ('model.backbone.type=lspt_mm.PromptedVT', ['PromptedVT']),
        ('model.decode_head.num_classes=many', ['cannot be built']),
        ('optim_wrapper.optimizer.type=AdamV', ['AdamV']),
        ('optim_wrapper.optimizer.lr=fast', ['fast']),
        ('train_cfg.max_iters', ['train_cfg.max_iters']),
    ],
)
def test_typos_in_cfg_options(option, named, seg, tmp_path):
    refused(train(seg / 'mini_seg.py', '--cfg-options', option, cwd=tmp_path), *named)


def test_unknown_option(seg, tmp_path):
    refused(train(seg / 'mini_seg.py', '--pretained', 'x', cwd=tmp_path), '--pretained')


def test_config_that_is_not_there(tmp_path):
    refused(train('configs/typo.py', cwd=tmp_path), 'configs/typo.py')


def test_config_that_is_a_folder(tmp_path):
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work' / 'mine.py').touch()
    refused(train('work', cwd=tmp_path), 'config work: a folder', 'those in it: work/mine.py')


def test_config_with_a_syntax_error(tmp_path):
    (tmp_path / 'torn.py').write_text('model = dict(\n')
    refused(train('torn.py', cwd=tmp_path), 'torn.py')


def test_config_whose_base_is_not_there(tmp_path):
    (tmp_path / 'child.py').write_text("_base_ = './typo_base.py'\n")
    refused(train('child.py', cwd=tmp_path), 'typo_base.py')


def test_resume_path_that_is_not_there(seg, tmp_path):
    refused(train(seg / 'mini_seg.py', '--resume', 'typo.pth', cwd=tmp_path), '--resume typo.pth')


def test_resume_from_something_else(seg, tmp_path):
    (tmp_path / 'text.pth').write_text('no checkpoint')
    refused(train(seg / 'mini_seg.py', '--resume', 'text.pth', cwd=tmp_path), 'text.pth')


def test_resume_without_anything_to_resume(seg, tmp_path):
    # As in other OpenMMLab projects: it starts from the beginning (a job that restarts itself).
    run = train(
        seg / 'mini_seg.py', '--resume', '--cfg-options', 'train_cfg.max_iters=1', cwd=tmp_path
    )
    assert run.code == 0, run.err[-3000:]


# ---- testing ----------------------------------------------------------------------------------


def write_checkpoint(seg, path, without=''):
    """A checkpoint as the training run of ``seg`` writes, less what starts with ``without``."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    import lspt_mm  # noqa: F401

    init_default_scope('mmseg')
    cfg = Config.fromfile(seg / 'mini_seg.py').model
    for part in (cfg.neck, cfg.decode_head, cfg.auxiliary_head):
        part.norm_cfg.type = 'BN'
    state = MODELS.build(cfg).state_dict()
    if without:
        assert any(k.startswith(without) for k in state)
        state = {k: v for k, v in state.items() if not k.startswith(without)}
    torch.save({'state_dict': state, 'meta': {}}, path)
    return path


def test_checkpoint_that_is_not_there(seg, tmp_path):
    run = run_tool('test.py', seg / 'mini_seg.py', 'typo.pth', '--work-dir', 'w', cwd=tmp_path)
    refused(run, 'typo.pth')


@pytest.mark.parametrize('without', ['backbone.', 'backbone.layers.2.attn.proj.bias'])
def test_checkpoint_without_the_whole_vit(without, seg, tmp_path):
    write_checkpoint(seg, tmp_path / 'partial.pth', without)
    run = run_tool('test.py', seg / 'mini_seg.py', 'partial.pth', '--work-dir', 'w', cwd=tmp_path)
    refused(run, 'backbone', 'random')


@pytest.mark.parametrize('without', ['backbone.prompter.', 'decode_head.conv_seg', 'neck.'])
def test_checkpoint_without_what_was_trained(without, seg, tmp_path):
    # The whole ViT is in it, and a random head would be judged without a word.
    write_checkpoint(seg, tmp_path / 'partial.pth', without)
    run = run_tool('test.py', seg / 'mini_seg.py', 'partial.pth', '--work-dir', 'w', cwd=tmp_path)
    refused(run, without.rstrip('.'))


def test_checkpoint_that_is_no_checkpoint(seg, tmp_path):
    (tmp_path / 'text.pth').write_text('no checkpoint')
    run = run_tool('test.py', seg / 'mini_seg.py', 'text.pth', '--work-dir', 'w', cwd=tmp_path)
    refused(run, 'text.pth')


# ---- data -------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    return write_ade20k(tmp_path / 'data', training=2, validation=1)


def break_value(data):
    save_label(data / 'annotations/training/training_0.png', np.full((40, 48), 151))
    return 'annotations/training/training_0.png', '151', '150'


def break_torn_image(data):
    path = data / 'images/training/training_0.jpg'
    path.write_bytes(path.read_bytes()[:100])
    return ('images/training/training_0.jpg',)


def break_no_images(data):
    for path in (data / 'images/training').iterdir():
        path.unlink()
    return 'images/training', 'no images', '.jpg'


def break_no_labels(data):
    for path in (data / 'annotations/training').iterdir():
        path.unlink()
    return 'annotations/training', 'no label'


def break_no_folder(data):
    for path in (data / 'annotations/validation').iterdir():
        path.unlink()
    (data / 'annotations/validation').rmdir()
    return ('annotations/validation',)


BREAKS = {k[6:]: v for k, v in list(globals().items()) if k.startswith('break_')}


@pytest.mark.parametrize('kind', BREAKS)
def test_bad_data(kind, data, seg, tmp_path):
    named = BREAKS[kind](data)
    run = train(seg / 'mini_seg.py', '--data-root', data, cwd=tmp_path)
    refused(run, *named)


@pytest.mark.parametrize('kind', ['value', 'torn_image'])
def test_bad_data_met_by_a_worker_process(kind, data, seg, tmp_path):
    named = BREAKS[kind](data)
    run = train(
        seg / 'mini_seg.py', '--data-root', data, '--no-check', '--cfg-options',
        'train_dataloader.num_workers=1', cwd=tmp_path,
    )
    refused(run, *named)


def test_bad_label_in_testing(data, seg, tmp_path):
    save_label(data / 'annotations/validation/validation_0.png', np.full((40, 48), 200))
    write_checkpoint(seg, tmp_path / 'whole.pth')
    run = run_tool(
        'test.py', seg / 'mini_seg.py', 'whole.pth', '--data-root', data, '--work-dir', 'w',
        cwd=tmp_path,
    )
    refused(run, 'validation_0.png', '200')


@pytest.mark.parametrize(('kind', 'classes'), [('more', 4), ('fewer', 2)])
def test_image_folder_with_another_number_of_classes(kind, classes, cls, tmp_path):
    for split in ('train', 'val'):
        for c in range(classes):
            save_image(tmp_path / f'images/{split}/class_{c}/0.jpg')
    run = train(cls / 'mini_cls.py', '--data-root', tmp_path / 'images', cwd=tmp_path)
    refused(run, 'num_classes', str(classes), '3')


def test_image_folder_without_images(cls, tmp_path):
    for split in ('train', 'val'):
        (tmp_path / f'images/{split}/ant').mkdir(parents=True)
    run = train(cls / 'mini_cls.py', '--data-root', tmp_path / 'images', cwd=tmp_path)
    refused(run, 'images/train', 'no images')


def test_image_folder_without_val(cls, tmp_path):
    save_image(tmp_path / 'images/train/ant/0.jpg')
    run = train(cls / 'mini_cls.py', '--data-root', tmp_path / 'images', cwd=tmp_path)
    refused(run, 'images/val')


# ---- what MMEngine builds late ------------------------------------------------------------------


@pytest.mark.parametrize(
    ('option', 'word'),
    [
        ('train_dataloader.batch_size=0', 'batch_size'),
        ('optim_wrapper.optimizer.lr=-1', '-1'),
        ('train_cfg.max_epochs=abc', 'abc'),
        ('model.backbone.patch_size=0', 'patch_size=0'),
        ('model.backbone.tune=nothing', "tune='nothing'"),
        ('load_from=nope.pth', 'nope.pth'),
    ],
)
def test_values_that_a_class_refuses(option, word, cls, tmp_path):
    refused(train(cls / 'mini_cls.py', '--cfg-options', option, cwd=tmp_path), word)


def test_a_method_that_starts_from_data_without_its_hook(cls, tmp_path):
    (tmp_path / 'own.py').write_text(
        f"_base_ = '{cls / 'mini_cls.py'}'\n"
        "custom_hooks = [dict(type='lspt_mm.BackboneWeightsHook')]\n"
        "model = dict(backbone=dict(prompter=dict(\n"
        "    _delete_=True, type='SelfPrompt', num_tokens=3, start='kmeans')))\n"
    )
    refused(train(tmp_path / 'own.py', cwd=tmp_path), 'PromptInitHook', 'SelfPrompt')


def test_a_list_of_hooks_without_ours_does_not_end_their_checks(cls, tmp_path):
    (tmp_path / 'own.py').write_text(
        f"_base_ = '{cls / 'mini_cls.py'}'\ncustom_hooks = []\n"
        "model = dict(backbone=dict(tune='partial-1'))\n"
    )
    refused(train(tmp_path / 'own.py', cwd=tmp_path), "tune='partial-1' does not train the prompts")
