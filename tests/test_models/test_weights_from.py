"""``PromptedViT.weights``: only a state dict that holds the whole ViT makes it a trained one."""

import copy

import pytest
import torch
from method_table import METHODS
from mmengine.runner.checkpoint import load_state_dict as mmengine_load
from torch import nn
from vit_oracles import build

LSPT = METHODS['lspt']


def torch_load(model, state):
    model.load_state_dict(state, strict=False)


LOADERS = {'torch': torch_load, 'mmengine': mmengine_load}
NAMES = sorted(build().state_dict())


class Segmentor(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(2, 2)


def test_none_after_construction_and_random_initialisation():
    model = build(LSPT)
    assert model.weights.source is None
    model.init_weights()
    assert model.weights.source is None


@pytest.mark.parametrize('prompter', [None, LSPT], ids=['plain', 'lspt'])
@pytest.mark.parametrize('loader', LOADERS)
def test_set_by_a_complete_state_dict(loader, prompter):
    model, source = build(prompter), build(prompter, seed=1)
    LOADERS[loader](model, source.state_dict())
    assert isinstance(model.weights.source, str) and model.weights.source
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize('loader', LOADERS)
def test_set_without_the_prompter(loader):
    model = build(LSPT)
    LOADERS[loader](model, build(seed=1).state_dict())
    assert model.weights.source


@pytest.mark.parametrize('loader', LOADERS)
def test_set_below_another_module(loader):
    model = Segmentor(build(LSPT))
    LOADERS[loader](model, Segmentor(build(LSPT, seed=1)).state_dict())
    assert model.backbone.weights.source


@pytest.mark.parametrize('loader', LOADERS)
@pytest.mark.parametrize('missing', NAMES)
def test_none_if_one_tensor_is_missing(missing, loader):
    model, state = Segmentor(build(LSPT)), Segmentor(build(LSPT, seed=1)).state_dict()
    del state['backbone.' + missing]
    LOADERS[loader](model, state)
    assert model.backbone.weights.source is None


@pytest.mark.parametrize('loader', LOADERS)
def test_none_after_prompts_only(loader):
    model = build(LSPT)
    state = {k: v for k, v in build(LSPT).state_dict().items() if k.startswith('prompter.')}
    LOADERS[loader](model, state)
    assert model.weights.source is None


@pytest.mark.parametrize('loader', LOADERS)
def test_none_after_another_modules_state_dict(loader):
    # Same names without the prefix: nothing is loaded.
    model = Segmentor(build())
    LOADERS[loader](model, build().state_dict())
    assert model.backbone.weights.source is None


@pytest.mark.parametrize('wrong', ['cls_token', 'layers.1.attn.qkv.weight', 'ln1.bias'])
def test_none_if_a_shape_is_wrong(wrong):
    # mmengine only warns about a tensor of another shape and leaves it random.
    model, state = build(), build(seed=1).state_dict()
    state[wrong] = torch.zeros(7)
    before = model.state_dict()[wrong].clone()
    mmengine_load(model, state, strict=False)
    assert torch.equal(model.state_dict()[wrong], before)
    assert model.weights.source is None


@pytest.mark.parametrize('loader', LOADERS)
def test_set_where_position_embeddings_are_resized_on_loading(loader):
    # mmpretrain resizes them in a hook before the shapes are compared.
    model = build(img_size=32)
    LOADERS[loader](model, build(seed=1).state_dict())
    assert model.weights.source


def test_later_prompts_do_not_unset_it():
    model = build(LSPT)
    model.load_state_dict(build(LSPT).state_dict())
    was = model.weights.source
    torch_load(model, {'prompter.prompts': model.prompter.prompts.detach()})
    assert model.weights.source == was


def test_copies_keep_it():
    model = build()
    model.load_state_dict(build().state_dict())
    assert copy.deepcopy(model).weights.source == model.weights.source
