"""Converts the convolutions of neck and heads to the channels-last memory format."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from lspt_mm.engine.hooks.backbone_weights_hook import prompted_vits
from lspt_mm.registry import HOOKS


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Converts convolutions to channels last, except those of a :class:`PromptedViT`.

    The ViT's feature maps, rows of tokens, are already channels last; a head in the default layout
    would copy them first.
    """

    def before_train(self, runner: Runner) -> None:
        """Convert the four-dimensional weights of neck and heads.

        Not earlier: random initialisation fills tensors in memory order.
        """
        own = {id(p) for vit in prompted_vits(runner).values() for p in vit.parameters()}
        for parameter in runner.model.parameters():
            if parameter.dim() == 4 and id(parameter) not in own:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
