"""``--compile``: compiled blocks."""

import pytest
from mmengine.config import Config

from lspt_mm.config.load import turn_on_compile
from lspt_mm.errors import InputError
from lspt_mm.registry import MODELS

ARCH = {'embed_dims': 8, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 16}


def test_compile_turns_on_compiled_blocks():
    cfg = Config({'model': {'backbone': {'type': 'lspt_mm.PromptedViT', 'arch': ARCH}}})
    turn_on_compile(cfg)
    assert MODELS.build(cfg.model.backbone).compile_blocks is True


@pytest.mark.parametrize('model', [{}, {'backbone': {'type': 'mmpretrain.ResNet', 'depth': 50}}])
def test_compile_refuses_another_backbone(model):
    with pytest.raises(InputError, match='--compile: the backbone is'):
        turn_on_compile(Config({'model': model}))
