"""What makes a run faster without changing what it computes: compiled blocks, memory format."""

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner

from lspt_mm.engine.hooks.backbone_weights_hook import prompted_vits
from lspt_mm.errors import InputError
from lspt_mm.models import PromptedViT
from lspt_mm.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Lay convolutions out with channels last, everywhere but in a :class:`PromptedViT`.

    Its feature maps have channels last anyway (they are rows of tokens), so that a head in the
    usual layout starts by copying them.
    """

    def before_train(self, runner: Runner) -> None:
        """Convert the weights of neck and heads, those of four dimensions.

        Not earlier: the random start fills tensors in the order of their memory.
        """
        own = {id(p) for _, vit in prompted_vits(runner) for p in vit.parameters()}
        for parameter in runner.model.parameters():
            if parameter.dim() == 4 and id(parameter) not in own:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def turn_on_channels_last(cfg: Config) -> None:
    """``--channels-last``."""
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), {'type': 'lspt_mm.ChannelsLastHook'}]


def turn_on_compile(cfg: Config) -> None:
    """``--compile``: the blocks of the config's backbone.

    Raises:
        InputError: If the backbone is none of ours.
    """
    backbone = cfg.model.get('backbone') or {}
    if MODELS.get(str(backbone.get('type'))) is not PromptedViT:
        raise InputError(
            f'--compile: the backbone is {backbone.get("type")!r}; only the blocks of '
            'lspt_mm.PromptedViT can be compiled'
        )
    backbone.compile_blocks = True
