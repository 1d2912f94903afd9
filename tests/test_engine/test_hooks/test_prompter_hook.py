"""PrompterHook: losses in the model's own loss, and the steps of a method in a run."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from lspt_mm.engine.hooks.prompter_hook import (
    PrompterHook,
    add_prompter_hook,
    check_prompter_hook,
    pass_length,
)
from lspt_mm.errors import InputError
from lspt_mm.models import VPT
from lspt_mm.registry import HOOKS, PROMPTERS

ARCH = {'embed_dims': 8, 'num_layers': 3, 'num_heads': 2, 'feedforward_channels': 16}
IMAGES, CLASSES = 6, 3


class Noted(VPT):
    """VPT that notes what the hook calls it with."""

    def __init__(self, num_tokens, **vit):
        super().__init__(num_tokens, deep=True, **vit)
        self.calls, self.labels, self.epochs, self.seen = [], [], [], []

    def observes(self, l):
        return l == 2

    def losses(self, vit, observed, labels):
        self.labels.append(labels)
        self.seen.append(observed)
        return {'size': 0.5 * self.prompts.square().sum(), 'mean': observed.blocks[2].mean()}

    def before_step(self):
        self.calls.append('before')

    def after_step(self):
        self.calls.append('after')

    def after_epoch(self, training):
        self.epochs.append(training)
        return f'pass {training.epoch}'


@pytest.fixture(autouse=True)
def registered():
    PROMPTERS.register_module(module=Noted)
    yield
    del PROMPTERS.module_dict['Noted']


@HOOKS.register_module(force=True)
class LossLog(Hook):
    """Keeps the losses of every iteration."""

    def before_train(self, runner):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({k: float(v.detach()) for k, v in outputs.items()})


class Pictures(torch.utils.data.Dataset):
    metainfo = {'classes': ['a', 'b', 'c']}

    def __len__(self):
        return IMAGES

    def __getitem__(self, index):
        from mmpretrain.structures import DataSample

        generator = torch.Generator().manual_seed(index)
        return {
            'inputs': torch.randint(0, 255, (3, 16, 16), generator=generator, dtype=torch.uint8),
            'data_samples': DataSample().set_gt_label(index % CLASSES),
        }


def config(
    folder, prompter, by_epoch=True, hooks=('lspt_mm.PrompterHook', 'lspt_mm.LossLog'),
    optim_wrapper=None,
):
    loop = dict(by_epoch=True, max_epochs=2) if by_epoch else dict(by_epoch=False, max_iters=5)
    return Config(
        dict(
            default_scope='mmpretrain',
            work_dir=str(folder),
            model=dict(
                type='ImageClassifier',
                backbone=dict(
                    type='lspt_mm.PromptedViT', arch=ARCH, img_size=16, patch_size=8,
                    prompter=prompter, out_type='cls_token',
                ),
                head=dict(type='LinearClsHead', in_channels=8, num_classes=CLASSES),
            ),
            data_preprocessor=dict(mean=[127.0] * 3, std=[58.0] * 3, num_classes=CLASSES),
            train_cfg=loop,
            optim_wrapper=optim_wrapper or dict(optimizer=dict(type='SGD', lr=0.1)),
            custom_hooks=[dict(type=name) for name in hooks],
            default_hooks=dict(checkpoint=None),
            randomness=dict(seed=0),
            log_level='ERROR',
        )
    )


def run(folder, prompter, **options):
    cfg = config(folder, prompter, **options)
    loader = dict(
        batch_size=4,
        dataset=Pictures(),
        sampler=dict(type='DefaultSampler' if options.get('by_epoch', True) else 'InfiniteSampler'),
        collate_fn=dict(type='default_collate'),
    )
    runner = Runner(
        model=cfg.model, work_dir=cfg.work_dir, train_dataloader=loader, cfg=cfg,
        experiment_name=folder.name,
        **{k: cfg[k] for k in ('train_cfg', 'optim_wrapper', 'custom_hooks', 'default_hooks',
                               'data_preprocessor', 'randomness', 'default_scope', 'log_level')},
    )
    runner.train()
    return runner


def hook_of(runner, kind):
    return next(hook for hook in runner.hooks if isinstance(hook, kind))


def test_losses_are_part_of_the_models_loss(tmp_path):
    runner = run(tmp_path, dict(type='Noted', num_tokens=2))
    prompter = runner.model.backbone.prompter
    losses = hook_of(runner, LossLog).losses
    for found, observed in zip(losses, prompter.seen, strict=True):
        assert found['loss_noted_mean'] == pytest.approx(float(observed.blocks[2].mean().detach()))
        added = found['loss_noted_size'] + found['loss_noted_mean']
        assert found['loss'] == pytest.approx(found['loss_cls'] + added)
    assert prompter.seen[0].blocks.keys() == {2}
    assert prompter.seen[0].blocks[2].shape == (4, 5, 8)
    assert prompter.seen[0].features[0].shape == (4, 8)


def test_losses_train_the_prompts(tmp_path):
    class Shrinking(Noted):
        def observes(self, l):
            return False

        def losses(self, vit, observed, labels):
            return {'size': 1e6 * 0.5 * self.prompts.square().sum()}

    PROMPTERS.register_module(module=Shrinking)
    try:
        cfg = dict(type='Shrinking', num_tokens=2)
        runner = run(tmp_path, cfg)
    finally:
        del PROMPTERS.module_dict['Shrinking']
    # lr 0.1 times a curvature of 1e6: four steps multiply the prompts by (1 - 1e5) each.
    assert runner.model.backbone.prompter.prompts.abs().max() > 1e10


def test_labels_are_the_classes_of_the_images(tmp_path):
    runner = run(tmp_path, dict(type='Noted', num_tokens=2))
    labels = torch.cat(runner.model.backbone.prompter.labels[:2])
    assert labels.dtype == torch.bool and labels.shape == (IMAGES, CLASSES)
    assert labels.sum(1).eq(1).all() and labels.sum(0).tolist() == [2, 2, 2]


def test_steps_by_epoch(tmp_path):
    runner = run(tmp_path, dict(type='Noted', num_tokens=2))
    prompter = runner.model.backbone.prompter
    assert prompter.calls == ['before', 'after'] * 4  # 6 images, 4 a batch, 2 epochs
    assert [(t.epoch, t.num_epochs) for t in prompter.epochs] == [(1, 2), (2, 2)]
    losses = [found['loss'] for found in hook_of(runner, LossLog).losses]
    assert [t.loss for t in prompter.epochs] == pytest.approx(
        [sum(losses[:2]) / 2, sum(losses[2:]) / 2]
    )


def test_steps_of_a_run_by_iterations(tmp_path):
    runner = run(tmp_path, dict(type='Noted', num_tokens=2), by_epoch=False)
    prompter = runner.model.backbone.prompter
    assert len(prompter.calls) == 10
    assert [(t.epoch, t.num_epochs) for t in prompter.epochs] == [(1, 3), (2, 3)]


def test_nothing_is_left_of_a_run(tmp_path):
    runner = run(tmp_path, dict(type='Noted', num_tokens=2))
    model = runner.model
    assert not model._forward_hooks and not model._forward_pre_hooks
    count = len(model.backbone.prompter.labels)
    model(torch.zeros(1, 3, 16, 16))
    assert len(model.backbone.prompter.labels) == count


def test_a_method_without_steps_runs_without_hooks(tmp_path):
    runner = run(tmp_path, dict(type='VPT', num_tokens=2))
    assert hook_of(runner, PrompterHook)._vits == []
    assert all(found.keys() == {'loss'} for found in hook_of(runner, LossLog).losses)


def test_validation_computes_no_such_loss(tmp_path):
    runner = run(tmp_path, dict(type='Noted', num_tokens=2))
    count = len(runner.model.backbone.prompter.seen)
    runner.model.eval()
    data = runner.model.data_preprocessor(
        {'inputs': [Pictures()[0]['inputs']], 'data_samples': [Pictures()[0]['data_samples']]}
    )
    assert set(runner.model(**data, mode='loss')) == {'loss'}
    assert len(runner.model.backbone.prompter.seen) == count


@pytest.mark.parametrize(('images', 'batch', 'want'), [(6, 4, 2), (8, 4, 2), (1, 4, 1)])
def test_length_of_a_pass(images, batch, want):
    loader = SimpleNamespace(batch_size=batch, dataset=range(images))
    assert pass_length(SimpleNamespace(train_dataloader=loader)) == want


@pytest.mark.parametrize('optimizer', ['SGD', 'AdamW'])
def test_what_is_forgotten_of_the_optimizer(tmp_path, optimizer):
    seen = []

    class Forgetful(Noted):
        def after_epoch(self, training):
            training.forget(self.prompts, 1)
            training.forget(self.other)  # unknown to the optimizer
            training.forget(self.other, 0)
            seen.append(training.scale)

        def losses(self, vit, observed, labels):
            return {}

        other = torch.nn.Parameter(torch.zeros(2))

    PROMPTERS.register_module(module=Forgetful)
    try:
        wrapper = dict(optimizer=dict(type=optimizer, lr=0.1), accumulative_counts=2)
        if optimizer == 'SGD':
            wrapper['optimizer']['momentum'] = 0.9
        runner = run(tmp_path, dict(type='Forgetful', num_tokens=2), optim_wrapper=wrapper)
    finally:
        del PROMPTERS.module_dict['Forgetful']
    prompts = runner.model.backbone.prompter.prompts
    state = runner.optim_wrapper.optimizer.state
    momentum = state[prompts]['momentum_buffer' if optimizer == 'SGD' else 'exp_avg']
    assert momentum[1].eq(0).all() and momentum[0].ne(0).any() and momentum[2].ne(0).any()
    if optimizer == 'AdamW':
        assert state[prompts]['exp_avg_sq'][1].ne(0).any()
    assert seen == [0.5, 0.5]
    hook = hook_of(runner, PrompterHook)
    hook._vits = [runner.model.backbone]
    runner.optim_wrapper.loss_scaler = SimpleNamespace(get_scale=lambda: 8.0)
    hook._epoch(runner, 1, 2)
    assert seen[-1] == 4.0
    runner.model.backbone.prompter.after_epoch = lambda t: t.forget(prompts) or ''
    hook._epoch(runner, 1, 2)
    assert prompts not in state


def test_a_config_without_the_hook(tmp_path):
    runner = run(tmp_path, dict(type='Noted', num_tokens=2), hooks=('lspt_mm.LossLog',))
    with pytest.raises(InputError, match=r'Noted has losses or steps .*PrompterHook'):
        check_prompter_hook(runner)
    add_prompter_hook(runner)
    check_prompter_hook(runner)
    add_prompter_hook(runner)
    assert len([hook for hook in runner.hooks if isinstance(hook, PrompterHook)]) == 1


def test_a_method_without_steps_needs_no_hook(tmp_path):
    runner = run(tmp_path, dict(type='VPT', num_tokens=2), hooks=('lspt_mm.LossLog',))
    add_prompter_hook(runner)
    check_prompter_hook(runner)
    assert not any(isinstance(hook, PrompterHook) for hook in runner.hooks)
