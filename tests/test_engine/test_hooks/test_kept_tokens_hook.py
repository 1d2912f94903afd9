"""Training on kept tokens: the same losses and weights, images decoded once, and refusals."""

import json
import runpy
import shutil
from types import SimpleNamespace

import pytest
import torch
from miniatures import (
    TOOLS,
    free_port,
    once,
    run_command,
    run_tool,
    save_image,
    write_classification,
    write_segmentation,
)
from mmcv.transforms import LoadImageFromFile
from mmengine.registry import init_default_scope

from lspt_mm.apis.training import train
from lspt_mm.config.load import read_config, turn_on_kept_tokens
from lspt_mm.engine.hooks.kept_tokens_hook import check_keeps_tokens
from lspt_mm.errors import InputError
from lspt_mm.models.prompted_backbone import PromptedBackbone
from lspt_mm.probing import tokens as kept
from lspt_mm.tasks import task_of

#: 12 images in batches of 5, the last of 2; dropout on the prompts of the last two of 4 blocks.
MORE = """
model['backbone']['prompter'] = dict(num_tokens=3, dropout=0.3, start_block=3)
train_dataloader['batch_size'] = 5
train_cfg = dict(max_epochs=3, val_interval=1)
optim_wrapper = dict(optimizer=dict(lr=0.05))
default_hooks = dict(
    logger=dict(interval=1), run_log=dict(interval=1),
    checkpoint=dict(interval=1, max_keep_ckpts=-1, save_best=None))
"""
ROTARY = """
model['backbone'] = dict(
    _delete_=True, type='lspt_mm.TimmPromptedViT', model='vit_small_patch16_dinov3', img_size=32,
    model_args=dict(depth=4, embed_dim=16, num_heads=2), pretrained=None,
    prompter=dict(type='VPT', num_tokens=3, dropout=0.3, start_block=3))
"""
#: Two data sets of every other image.
JOINED = """
train_dataloader['dataset'] = dict(_delete_=True, type='ConcatDataset', datasets=[
    dict(type='lspt_mm.ImageFolder', data_root=data_root, data_prefix='train',
         pipeline=pipeline, indices=list(range(first, 12, 2))) for first in (0, 1)])
"""
WORKERS = [f'{part}_dataloader.{name}' for part in ('train', 'val')
           for name in ('num_workers=2', 'persistent_workers=True')]  # fmt: skip
#: Name to options of the command line.
RUNS = {
    'plain': ('mini_cls.py',),
    'workers': ('mini_cls.py', '--amp', '--cfg-options', *WORKERS),
    'joined': ('joined.py',),
    'rotary': ('rotary.py', '--random-backbone'),
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    def make(folder):
        config = write_classification(folder).config
        config.write_text(config.read_text() + MORE)
        (folder / 'rotary.py').write_text(config.read_text() + ROTARY)
        place = f'data_root = {str(folder / "images")!r}'
        (folder / 'joined.py').write_text(f'{config.read_text()}\n{place}\n{JOINED}')

    return once(tmp_path_factory, 'kept_tokens', make)


def run_in(folder, work, config, *options, code=0):
    run = run_tool('train.py', folder / config, '--work-dir', work, *options, cwd=folder)
    assert run.code == code, run.err[-3000:]
    return run


def config_in(folder, work, *options):
    cfg = read_config(str(folder / 'mini_cls.py'))
    turn_on_kept_tokens(cfg)
    cfg.default_hooks.linear_baseline = None  # it reads images as well
    cfg.work_dir, cfg.launcher = str(work), 'none'
    # MMEngine's own name is the second, which two runs of one process may share.
    cfg.experiment_name = f'{work.parent.name}_{work.name}'
    return cfg


def outcome(work):
    """Losses and accuracies of all steps, and all tensors at the end."""
    lines = [json.loads(line) for line in (work / 'log.jsonl').read_text().splitlines()]
    names = ('mode', 'iter', 'epoch', 'loss', 'grad_norm', 'accuracy/top1')
    found = torch.load(work / 'epoch_3.pth', weights_only=False)
    return [{k: line[k] for k in names if k in line} for line in lines], found


def assert_equal(work, other):
    (lines, first), (their_lines, second) = outcome(work), outcome(other)
    assert sum('loss' in line for line in lines) == 9
    assert sum('accuracy/top1' in line for line in lines) == 3
    assert lines == their_lines
    assert first['state_dict'].keys() == second['state_dict'].keys()
    assert all(torch.equal(v, second['state_dict'][k]) for k, v in first['state_dict'].items())


@pytest.mark.parametrize('name', RUNS)
def test_losses_and_weights_are_those_without(folder, tmp_path, name):
    run_in(folder, tmp_path / 'plain', *RUNS[name])
    run = run_in(folder, tmp_path / 'kept', *RUNS[name][:1], '--keep-tokens', *RUNS[name][1:])
    assert run.out.count('they do not depend on the batch') == 2 + (name == 'joined')
    assert_equal(tmp_path / 'kept', tmp_path / 'plain')


def test_resumed_with_kept_tokens(folder, tmp_path):
    run_in(folder, tmp_path / 'plain', 'mini_cls.py')
    shutil.copytree(tmp_path / 'plain', tmp_path / 'kept')
    lines = (tmp_path / 'plain/log.jsonl').read_text().splitlines(keepends=True)
    (tmp_path / 'kept/log.jsonl').write_text(''.join(lines[:4]))  # an epoch and its validation
    run_in(folder, tmp_path / 'kept', 'mini_cls.py', '--keep-tokens', '--resume',
           tmp_path / 'plain/epoch_1.pth')  # fmt: skip
    assert_equal(tmp_path / 'kept', tmp_path / 'plain')


def test_search_turns_it_on(folder):
    options = dict.fromkeys(('cfg_options', 'data_root', 'pretrained'))
    args = SimpleNamespace(config=str(folder / 'mini_cls.py'), random_backbone=False, amp=False,
                           keep_tokens=True, **options)  # fmt: skip
    config_of = runpy.run_path(str(TOOLS / 'search.py'))['config_maker'](args)
    hook = config_of({}).default_hooks.kept_tokens
    assert hook == dict(type='lspt_mm.KeptTokensHook', enable=True)


@pytest.mark.slow
def test_two_processes(folder, tmp_path):
    for name, options in (('plain', ()), ('kept', ('--keep-tokens',))):
        run = run_command(
            'bash', TOOLS / 'dist_train.sh', folder / 'mini_cls.py', 2, '--work-dir',
            tmp_path / name, *options, cwd=folder, MASTER_PORT=free_port(),
        )  # fmt: skip
        assert run.code == 0, run.err[-3000:]
    states = [torch.load(tmp_path / f'{name}/epoch_3.pth', weights_only=False)['state_dict']
              for name in ('plain', 'kept')]  # fmt: skip
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_images_are_decoded_once(folder, tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path / 'cache'))
    decoded, original = [], LoadImageFromFile.transform

    def count(self, results):
        decoded.append(results['img_path'])
        return original(self, results)

    monkeypatch.setattr(LoadImageFromFile, 'transform', count)
    train(config_in(folder, tmp_path / 'first'), check=False)
    assert len(decoded) == len(set(decoded)) == 12 + 6  # of training and validation
    train(config_in(folder, tmp_path / 'second'), check=False)
    assert len(decoded) == 12 + 6


def test_tokens_are_those_that_enter_the_block(folder, tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path / 'cache'))
    runner = train(config_in(folder, tmp_path / 'run'), check=False)
    dataset = runner.train_dataloader.dataset.dataset
    read = dataset[7]['tokens']
    cfg = config_in(folder, tmp_path)
    init_default_scope('mmpretrain')
    from mmengine.registry import DATASETS

    item = DATASETS.build(cfg.train_dataloader.dataset)[7]
    model = runner.model.eval()
    image = model.data_preprocessor({'inputs': [item['inputs']]})['inputs']
    steps = {}
    with torch.no_grad():
        model.backbone.unroll(image, lambda step: steps.update({step.number: step.x_in}), False)
    assert torch.equal(read, steps[3][0])


def test_dependence_on_the_batch_is_in_the_log(folder, tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path / 'cache'))
    original = PromptedBackbone.early

    def rounded(self, img, depth):
        found = original(self, img, depth)
        x = found.embedded.tokens + 0.25 * len(img)
        return found._replace(embedded=found.embedded._replace(tokens=x))

    monkeypatch.setattr(PromptedBackbone, 'early', rounded)
    train(config_in(folder, tmp_path / 'run'), check=False)
    (log,) = (tmp_path / 'run').glob('*/*.log')
    # A batch of 5 and one image: 4 times 0.25.
    assert 'depend on the batch, by up to 1.0e+00' in log.read_text()


# ---- refusals ---------------------------------------------------------------------------------


def test_an_augmenting_pipeline_is_named(folder, tmp_path):
    run = run_in(folder, tmp_path / 'run', 'mini_cls.py', '--keep-tokens', '--cfg-options',
                 'train_dataloader.dataset.pipeline.1.type=RandomCrop', code=2)  # fmt: skip
    assert 'train_dataloader: the transform RandomCrop may draw random numbers' in run.err
    assert not list((tmp_path / 'run').glob('epoch_*'))


def test_a_random_validation_loads_its_images(folder, tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path / 'cache'))
    cfg = config_in(folder, tmp_path / 'run')
    flip = dict(type='RandomFlip', prob=0.5)
    cfg.val_dataloader.dataset.pipeline = [
        *cfg.val_dataloader.dataset.pipeline[:-1], flip, cfg.val_dataloader.dataset.pipeline[-1]
    ]
    runner = train(cfg, check=False)
    (log,) = (tmp_path / 'run').glob('*/*.log')
    assert 'the validation loads its images: the transform RandomFlip' in log.read_text()
    assert runner.val_dataloader.dataset[0]['inputs'].shape == (3, 32, 32)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'model.backbone.prompter.start_block': 1}, 'start_block=1: no block comes before'),
        ({'model.backbone.tune': 'prompts+bias'}, "tune='prompts+bias': the blocks"),
        ({'model.backbone.tune': 'prompts+lora-2'}, "tune='prompts+lora-2': the blocks"),
        ({'model.backbone.prompter': None}, 'the model has no prompts'),
        ({'model.backbone.out_indices': (0, 3)}, 'out_indices [0] are outputs of blocks before'),
        ({'train_cfg.skip_bad': 1}, 'train_cfg.skip_bad: unreadable files have no tokens'),
        ({'data_preprocessor.batch_augments': dict(augments=dict(type='Mixup', alpha=0.2)),
          'data_preprocessor.num_classes': 3}, 'batch_augments mixes images'),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(folder, changes, words):
    cfg = read_config(str(folder / 'mini_cls.py'))
    cfg.merge_from_dict(changes)
    runner = SimpleNamespace(model=task_of(cfg).build(cfg), cfg=cfg)
    with pytest.raises(InputError) as error:
        check_keeps_tokens(runner)
    assert words in str(error.value)


def test_segmentation_is_refused(tmp_path):
    cfg = read_config(str(write_segmentation(tmp_path).config))
    with pytest.raises(InputError, match='segmentation: images are cut into windows'):
        check_keeps_tokens(SimpleNamespace(model=task_of(cfg).build(cfg), cfg=cfg))


def test_images_of_several_sizes(tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path / 'cache'))
    write_classification(tmp_path)
    path = tmp_path / 'mini_cls.py'
    path.write_text(path.read_text() + MORE)
    save_image(tmp_path / 'images/train/bee/bee_1.jpg', 40, 64)
    cfg = config_in(tmp_path, tmp_path / 'run')
    cfg.train_dataloader.dataset.pipeline[1] = dict(type='ResizeEdge', scale=32)
    with pytest.raises(InputError, match='depends on the batch; expected a pipeline'):
        train(cfg, check=False)


def test_frozen_blocks_with_dropout(folder, tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path / 'cache'))
    original = PromptedBackbone.train

    def with_dropout(self, mode=True):
        original(self, mode)
        self.layers[0].ffn.train(mode)
        return self

    monkeypatch.setattr(PromptedBackbone, 'train', with_dropout)
    cfg = config_in(folder, tmp_path / 'run')
    cfg.model.backbone.drop_rate = 0.5
    with pytest.raises(InputError, match='the frozen blocks give other tokens for the same'):
        train(cfg, check=False)


def test_a_disk_that_is_too_small(folder, tmp_path, monkeypatch):
    monkeypatch.setenv('LSPT_MM_CACHE', str(tmp_path / 'cache'))
    # 12 images, 17 tokens, 16 channels, 4 bytes.
    monkeypatch.setattr(kept.shutil, 'disk_usage', lambda _: SimpleNamespace(free=13055))
    with pytest.raises(InputError, match='the tokens of 12 images take .* LSPT_MM_CACHE'):
        train(config_in(folder, tmp_path / 'run'), check=False)
    assert not list((tmp_path / 'cache').rglob('tokens*'))
    monkeypatch.setattr(kept.shutil, 'disk_usage', lambda _: SimpleNamespace(free=13056))
    train(config_in(folder, tmp_path / 'run'), check=False)
