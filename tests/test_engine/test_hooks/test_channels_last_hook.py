"""Options that make a run faster: the layout of convolutions, compiled blocks."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from torch import nn

from lspt_mm.config.load import turn_on_channels_last, turn_on_compile
from lspt_mm.engine.hooks.channels_last_hook import ChannelsLastHook
from lspt_mm.errors import InputError
from lspt_mm.models import PromptedViT
from lspt_mm.registry import MODELS

ARCH = {'embed_dims': 8, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 16}


class Segmentor(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = PromptedViT(arch=ARCH, img_size=32, patch_size=8, out_type='featmap')
        self.head = nn.Sequential(nn.Conv2d(8, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 3, 1))

    def forward(self, img):
        return self.head(self.backbone(img)[0])


@pytest.mark.parametrize('wrapped', [False, True])
def test_convolutions_of_the_head_have_channels_last_and_give_the_same(wrapped):
    model, img = Segmentor().eval(), torch.randn(2, 3, 32, 32)
    want = model(img)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    before = list(model.parameters())
    runner = SimpleNamespace(model=nn.DataParallel(model) if wrapped else model)
    ChannelsLastHook().before_train(runner)
    assert model.head[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not model.head[0].weight.is_contiguous()
    assert model.backbone.patch_embed.projection.weight.is_contiguous()
    torch.testing.assert_close(model(img), want, rtol=1e-5, atol=1e-6)
    assert model(img).is_contiguous(memory_format=torch.channels_last)
    # An optimizer that knows the parameters goes on with the same ones.
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_channels_last_is_added_to_the_hooks_of_a_config():
    cfg = Config({'custom_hooks': [{'type': 'A'}]})
    turn_on_channels_last(cfg)
    assert [hook['type'] for hook in cfg.custom_hooks] == ['A', 'lspt_mm.ChannelsLastHook']
    cfg = Config({})
    turn_on_channels_last(cfg)
    assert len(cfg.custom_hooks) == 1


def test_compile_turns_on_compiled_blocks():
    cfg = Config({'model': {'backbone': {'type': 'lspt_mm.PromptedViT', 'arch': ARCH}}})
    turn_on_compile(cfg)
    assert MODELS.build(cfg.model.backbone).compile_blocks is True


@pytest.mark.parametrize('model', [{}, {'backbone': {'type': 'mmpretrain.ResNet', 'depth': 50}}])
def test_compile_refuses_another_backbone(model):
    with pytest.raises(InputError, match='--compile: the backbone is'):
        turn_on_compile(Config({'model': model}))
