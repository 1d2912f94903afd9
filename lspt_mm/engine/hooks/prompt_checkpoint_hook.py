"""Saves full or prompt-only checkpoints; rejects incompatible ones on resume and test."""

from typing import Dict, Optional

from mmengine.runner import BaseLoop, Runner

from lspt_mm.checkpoints.backbone import UNKNOWN, DescribedBackbone
from lspt_mm.checkpoints.prompt_only import check_fit, strip_base_weights
from lspt_mm.checkpoints.publishing import size_table
from lspt_mm.checkpoints.records import (
    META,
    RANDOM,
    BaseRecord,
    frozen_base,
    record_of,
    records_json,
)
from lspt_mm.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from lspt_mm.engine.hooks.backbone_weights_hook import prompted_vits
from lspt_mm.engine.unwrapping import model_of
from lspt_mm.errors import InputError
from lspt_mm.registry import HOOKS


@HOOKS.register_module()
class PromptCheckpointHook(AtomicCheckpointHook):
    """Checkpoints of prompt-tuned models, written atomically.

    Every checkpoint records which ViT its prompts belong to, and can be written without that ViT.
    On resume and test, a checkpoint that does not fit the model is an error; MMEngine would only
    log it and leave parts random.

    Args:
        content (str): 'full', or 'prompts' for all but the frozen ViT (a
            :mod:`~lspt_mm.checkpoints.prompt_only` checkpoint; it has the optimizer's state).
        **kwargs: Arguments of MMEngine's ``CheckpointHook`` (interval, by_epoch, ...).

    Raises:
        InputError: Before the first iteration if content='prompts' and the source of the ViT is
            unknown; on loading a checkpoint that does not fit.
    """

    def __init__(self, content: str = 'full', **kwargs):
        if content not in ('full', 'prompts'):
            raise InputError(
                f"PromptCheckpointHook: content={content!r}: expected 'full' or 'prompts'"
            )
        super().__init__(**kwargs)
        self.content = content
        self._described = False
        self._fingerprints: Dict[str, tuple] = {}

    def before_train(self, runner: Runner) -> None:  # noqa: D102
        super().before_train(runner)
        if self.content == 'full':
            return
        vits = prompted_vits(runner)
        if not vits:
            raise InputError("checkpoint content='prompts': the model has no PromptedViT")
        for name, vit in vits.items():
            if _source(runner, vit) is None:
                raise InputError(
                    f"checkpoint content='prompts': the source of the weights of {name} is "
                    'unknown, so a checkpoint without them could not be used. Give the source: '
                    '--pretrained FILE'
                )
            if vit.tune == 'full':
                raise InputError(
                    "checkpoint content='prompts': with tune='full' no part of the ViT is frozen "
                    "and can be left out; use content='full'"
                )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:  # noqa: D102
        records = {}
        for name, vit in prompted_vits(runner).items():
            source = _source(runner, vit) or (UNKNOWN if vit.weights.source else RANDOM)
            records[name] = self._record(name, vit, source)
            if self.content == 'full':
                continue
            for key in ('state_dict', 'ema_state_dict'):
                if key in checkpoint:
                    inner = f'module.{name}' if key == 'ema_state_dict' else name
                    checkpoint[key] = strip_base_weights(checkpoint[key], inner, records[name])
        if records:
            checkpoint['meta'][META] = records_json(records)
        if self.content == 'prompts' and not self._described:
            self._described = True
            runner.logger.info(
                'Checkpoints without the frozen ViT:\n' + size_table(checkpoint['state_dict'])
            )

    def _record(self, name: str, vit: DescribedBackbone, source: str) -> BaseRecord:
        """The ViT's record; the fingerprint is computed again only if a tensor has changed."""
        state = tuple((t.data_ptr(), t._version) for t in frozen_base(vit.describe()).values())
        if self._fingerprints.get(name, (None,))[0] != (state, source):
            self._fingerprints[name] = (state, source), record_of(vit, source)
        return self._fingerprints[name][1]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:  # noqa: D102
        # Without resuming, a run may start from parts of another run. The loop of one that tests
        # or validates is still a config.
        if runner._resume or not isinstance(runner._train_loop, BaseLoop):
            model = model_of(runner)
            check_fit(model, checkpoint, resume=runner._resume)


def _source(runner: Runner, vit: DescribedBackbone) -> Optional[str]:
    """Where the ViT's weights can be found again."""
    if vit.weights.source == UNKNOWN:
        return runner._load_from
    return vit.weights.source
