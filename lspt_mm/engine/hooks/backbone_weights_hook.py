"""Hook that stops a run whose ViT has no pre-trained weights."""

from typing import Dict

from mmengine.hooks import Hook
from mmengine.runner import Runner

from lspt_mm.checkpoints.backbone import DescribedBackbone, prompted_backbones
from lspt_mm.engine.unwrapping import model_of
from lspt_mm.errors import InputError
from lspt_mm.registry import HOOKS


def prompted_vits(runner: Runner) -> Dict[str, DescribedBackbone]:
    """All prompted ViTs of a run's model, by name."""
    model = model_of(runner)
    return prompted_backbones(model)


@HOOKS.register_module()
class BackboneWeightsHook(Hook):
    """Raise an error before training, validating or testing with a ViT without loaded weights.

    MMEngine's ``Runner.val()`` and ``Runner.test()`` do not call ``init_weights``, and MMEngine
    only warns about a checkpoint that lacks the ViT. Without this hook, numbers of a random
    backbone would look like results.

    Args:
        allow_random (bool): Run anyway (for timing, say); a warning is logged.

    Raises:
        InputError: Before the first iteration; also if prompts are neither trained nor loaded.
    """

    priority = 'VERY_HIGH'

    def __init__(self, allow_random: bool = False):
        self.allow_random = allow_random

    def _check(self, runner: Runner) -> None:
        for name, vit in prompted_vits(runner).items():
            if vit.weights.source is not None:
                continue
            message = f'{name}: the ViT has no pre-trained weights, it is random'
            if not self.allow_random:
                raise InputError(
                    f'{message}. Give a file with --pretrained FILE (or pretrained= in the config) '
                    'or a checkpoint that holds the whole ViT; to run on a random backbone anyway, '
                    'use --random-backbone'
                )
            runner.logger.warning(f'{message}, as --random-backbone allows')

    def before_train(self, runner: Runner) -> None:  # noqa: D102
        self._check(runner)
        for name, vit in prompted_vits(runner).items():
            if vit.prompter is None or vit.weights.prompts or self.allow_random:
                continue
            trained = any(p.requires_grad for p in vit.prompter.parameters())
            if not trained and not vit.prompter.needs_preparation:
                raise InputError(
                    f'{name}: tune={vit.tune!r} does not train the prompts of '
                    f'{type(vit.prompter).__name__}, which are random. For a baseline without '
                    'prompts set prompter=None; to start from trained prompts, load_from='
                )

    def before_val(self, runner: Runner) -> None:  # noqa: D102
        self._check(runner)

    def before_test(self, runner: Runner) -> None:  # noqa: D102
        self._check(runner)
