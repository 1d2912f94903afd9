"""Hook that starts the tuned part of a backbone where another run has ended."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.checkpoints.records import RECORD
from lspt_mm.engine.unwrapping import model_of
from lspt_mm.errors import InputError
from lspt_mm.registry import HOOKS
from lspt_mm.utils.text import shorten


@HOOKS.register_module()
class WarmStartHook(Hook):
    """Before the first iteration, load the backbone's tensors of a checkpoint; no neck or head.

    ``load_from`` would load these as well, which fails for another number of classes. Prompts that
    start from data count as prepared if those of the checkpoint were.

    Args:
        checkpoint (str): File with ``state_dict``: full, or the tuned tensors alone.

    Raises:
        InputError: If it lacks a tuned tensor of the backbone, or has one without a place in it.
    """

    priority = 'VERY_HIGH'

    def __init__(self, checkpoint: str):
        self.checkpoint = checkpoint

    @torch.no_grad()
    def before_train(self, runner: Runner) -> None:  # noqa: D102
        if runner.iter > 0:
            return
        content, prefix = read_checkpoint(self.checkpoint), 'backbone.'
        state = content.get('state_dict', content)
        theirs = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        theirs.pop(RECORD, None)  # of prompt-only checkpoints
        vit = model_of(runner).backbone
        ours, described = vit.state_dict(), vit.describe()
        frozen = described.tensors.keys() - set(described.trained)
        wrong = [k for k, v in theirs.items() if k not in ours or ours[k].shape != v.shape]
        missing = [k for k in ours if k not in theirs and k not in frozen]
        if wrong or missing:
            raise InputError(
                f'{self.checkpoint}: not of a backbone tuned as this one; it '
                + (f'has {shorten(wrong)}' if wrong else f'lacks {shorten(missing)}')
            )
        for name, value in theirs.items():
            ours[name].copy_(value)
