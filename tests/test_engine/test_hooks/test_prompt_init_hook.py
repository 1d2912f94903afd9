"""PromptInitHook: when it prepares, from which images, and what it leaves as it was."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.hooks import EMAHook
from torch import nn

from lspt_mm.engine.hooks.prompt_init_hook import PromptInitHook
from lspt_mm.engine.hooks.prompter_hook import PrompterHook
from lspt_mm.errors import InputError
from lspt_mm.models import PromptedViT

ARCH = {'embed_dims': 8, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 16}
WHITENED = {'type': 'BilinearPrompt', 'num_tokens': 3, 'mode': 'fwhiten'}


class Images:
    """Twelve images with random noise on top, as augmentation makes it; notes who asks."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 12

    def __getitem__(self, index):
        self.asked.append(index)
        noise = torch.rand(3, 16, 16) + random.random() + float(np.random.rand())
        return {'inputs': noise + index}


class Model(nn.Module):
    def __init__(self, prompter):
        super().__init__()
        self.backbone = PromptedViT(
            arch=ARCH, img_size=16, patch_size=8, prompter=prompter, out_indices=-1
        )
        self.sizes = []

    def data_preprocessor(self, data, training):
        assert training is True
        self.sizes.append(len(data['inputs']))
        return data


class Log(list):
    def info(self, message):
        self.append(message)


def runner(prompter=WHITENED, seed=5):
    torch.manual_seed(0)
    loader = SimpleNamespace(
        dataset=Images(),
        collate_fn=lambda samples: {'inputs': torch.stack([s['inputs'] for s in samples])},
    )
    model = Model(prompter).train()
    return SimpleNamespace(
        model=model, logger=Log(), train_dataloader=loader, seed=seed, iter=0, hooks=[],
        cfg=ConfigDict(train_cfg={}),
    )


def test_prepares_once_and_says_so():
    run = runner()
    PromptInitHook(num_images=7, batch_size=3).before_train(run)
    assert len(set(run.train_dataloader.dataset.asked)) == 7
    assert run.model.sizes == [3, 3, 1]
    assert len(run.logger) == 1 and 'backbone.prompter: whitening of block 1' in run.logger[0]
    assert not run.model.backbone.prompter.needs_preparation
    assert run.model.backbone.training
    before = run.model.backbone.prompter.right.clone()
    PromptInitHook().before_train(run)  # as after a resume
    assert len(run.train_dataloader.dataset.asked) == 7
    assert torch.equal(run.model.backbone.prompter.right, before)


@pytest.mark.parametrize('skip_bad', [0, 1])
def test_images_that_cannot_be_read(skip_bad, monkeypatch):
    read = Images.__getitem__

    def broken(self, index):
        if index == 3:
            raise InputError('3.jpg: cannot be read')
        return read(self, index)

    monkeypatch.setattr(Images, '__getitem__', broken)
    run = runner()
    run.cfg.train_cfg.skip_bad = skip_bad
    if skip_bad:
        PromptInitHook(num_images=12, batch_size=4).before_train(run)
        assert run.model.sizes == [4, 4, 3]
    else:
        with pytest.raises(InputError, match='backbone.prompter: 3.jpg: cannot be read'):
            PromptInitHook(num_images=12).before_train(run)


def test_averages_of_a_run_start_from_what_was_prepared(monkeypatch):
    """EMAHook copies the model before; buffers with a row for each class are empty by then."""
    def prepare(self, runner, vit):
        vit.prompter.prototypes = torch.rand(4, 8)
        vit.prompter.prepared.fill_(True)

    monkeypatch.setattr(PromptInitHook, '_prepare', prepare)
    run = runner({'type': 'PrototypePrompt', 'num_tokens': 2, 'prompter': {'type': 'VPT'}})
    ema = EMAHook()
    ema.before_run(run)
    run.hooks = [ema, PrompterHook()]
    PromptInitHook().before_train(run)
    ema.ema_model.update_parameters(run.model)
    want = run.model.backbone.prompter.state_dict()
    found = ema.ema_model.module.backbone.prompter.state_dict()
    assert all(torch.equal(found[name], want[name]) for name in want)


def test_what_is_sent_to_other_processes_is_on_the_cpu(monkeypatch):
    """Pickled CUDA tensors would come back on rank 0's GPU in each process."""
    sent = []

    class OnGPU(torch.Tensor):
        def cpu(self):
            return self.as_subclass(torch.Tensor)

    run = runner()
    prompter = run.model.backbone.prompter
    state = prompter.state_dict
    monkeypatch.setattr(
        prompter, 'state_dict', lambda: {k: v.as_subclass(OnGPU) for k, v in state().items()}
    )
    monkeypatch.setattr(
        'lspt_mm.engine.hooks.prompt_init_hook.broadcast_object_list', sent.extend
    )
    PromptInitHook().before_train(run)
    assert {type(tensor) for tensor in sent[0].values()} == {torch.Tensor}


def test_fewer_images_than_asked_for_are_all_taken():
    run = runner()
    PromptInitHook(num_images=100).before_train(run)
    assert sorted(run.train_dataloader.dataset.asked) == list(range(12))


@pytest.mark.parametrize('prompter', [None, {'type': 'VPT', 'num_tokens': 2}], ids=str)
def test_nothing_to_prepare(prompter):
    run = runner(prompter)
    for door in ('before_train', 'before_val', 'before_test'):
        getattr(PromptInitHook(), door)(run)
    assert not run.train_dataloader.dataset.asked and not run.logger


def test_random_generators_are_left_as_they_were():
    run = runner()
    states = []
    for prepare in (False, True):
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(3)
        if prepare:
            PromptInitHook().before_train(run)
        states.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert states[0] == states[1]


@pytest.mark.parametrize(('a', 'b', 'same'), [(5, 5, True), (5, 6, False)])
def test_the_runs_seed_decides(a, b, same):
    rights = []
    for i, seed in enumerate((a, b)):
        run = runner(seed=seed)
        random.seed(i)  # whatever else was drawn before
        np.random.seed(i)
        torch.manual_seed(i)
        PromptInitHook(num_images=6).before_train(run)
        rights.append(run.model.backbone.prompter.right)
    assert torch.equal(*rights) == same


def test_too_few_images_are_an_error_of_the_input():
    run = runner({'type': 'SelfPrompt', 'num_tokens': 9})
    with pytest.raises(InputError, match=r'backbone\.prompter: .* 8 patch tokens .* num_images'):
        PromptInitHook(num_images=2).before_train(run)


@pytest.mark.parametrize('door', ['before_val', 'before_test'])
def test_prompts_never_prepared_are_refused(door):
    with pytest.raises(InputError, match='BilinearPrompt .* has not been prepared'):
        getattr(PromptInitHook(), door)(runner())


@pytest.mark.parametrize(
    'bad', [{'num_images': 0}, {'batch_size': 1.5}, {'num_images': None}, {'batch_size': True}]
)
def test_bad_arguments(bad):
    (name,) = bad
    with pytest.raises(ValueError, match=name):
        PromptInitHook(**bad)


def test_prompts_of_a_run_that_is_resumed_are_not_started_anew():
    run = runner()
    run.iter = 7
    before = run.model.backbone.prompter.right.clone()
    with pytest.raises(InputError, match='iteration 7'):
        PromptInitHook().before_train(run)
    assert torch.equal(run.model.backbone.prompter.right, before)


def test_a_config_without_the_hook():
    from lspt_mm.engine.hooks.prompt_init_hook import check_prepared_somewhere

    run = runner()
    with pytest.raises(InputError, match='PromptInitHook'):
        check_prepared_somewhere(run)
    run.hooks = [PromptInitHook()]
    check_prepared_somewhere(run)
    run = runner({'type': 'VPT', 'num_tokens': 2})
    check_prepared_somewhere(run)
