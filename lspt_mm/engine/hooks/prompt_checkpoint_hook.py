"""What a run's checkpoints hold, and that only fitting ones are gone on from or tested."""

import json
import logging
from typing import Dict, List, Optional

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from lspt_mm.checkpoints.prompt_only import (
    RANDOM,
    RECORD,
    UNKNOWN,
    BaseRecord,
    check_same_model,
    from_json,
    frozen_base,
    output_config,
    record_of,
    records_in,
    strip_base_weights,
)
from lspt_mm.engine.hooks.atomic_checkpoint_hook import AtomicCheckpointHook
from lspt_mm.engine.hooks.backbone_weights_hook import prompted_vits
from lspt_mm.errors import InputError
from lspt_mm.models import PromptedViT
from lspt_mm.registry import HOOKS
from lspt_mm.utils.text import shorten

#: Key of the records in a checkpoint's ``meta``: JSON, by name of the backbone.
META = 'lspt_mm'


@HOOKS.register_module()
class PromptCheckpointHook(AtomicCheckpointHook):
    """Checkpoints of prompt-tuned models, written whole or not at all.

    Every checkpoint says which ViT its prompts belong to, and can be written without it. A
    checkpoint that does not fit the model is refused when a run goes on from it or is tested with
    it, where MMEngine would leave parts at random with a line in the log.

    Args:
        content (str): 'full', or 'prompts' for all but the frozen ViT (a
            :mod:`~lspt_mm.checkpoints.prompt_only` checkpoint; the optimizer's state is kept).
        **kwargs: Arguments of MMEngine's ``CheckpointHook`` (interval, by_epoch, ...).

    Raises:
        InputError: Before the first iteration if content='prompts' and it is not known where the
            ViT came from; when a checkpoint is loaded that does not fit.
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
        vits = dict(prompted_vits(runner))
        if not vits:
            raise InputError("checkpoint content='prompts': the model has no PromptedViT")
        for name, vit in vits.items():
            if _source(runner, vit) is None:
                raise InputError(
                    f"checkpoint content='prompts': it is not known where the weights of {name} "
                    'came from, so that a checkpoint without them could not be used. Name them: '
                    '--pretrained FILE'
                )
            if vit.tune == 'full':
                raise InputError(
                    "checkpoint content='prompts': with tune='full' nothing of the ViT is frozen, "
                    "there is nothing to leave out; use content='full'"
                )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:  # noqa: D102
        records = {}
        for name, vit in prompted_vits(runner):
            source = _source(runner, vit) or (UNKNOWN if vit.weights_from else RANDOM)
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

    def _record(self, name: str, vit: PromptedViT, source: str) -> BaseRecord:
        """The ViT's record; the fingerprint is taken again only if a tensor was written to."""
        state = tuple((t.data_ptr(), t._version) for t in frozen_base(vit).values())
        if self._fingerprints.get(name, (None,))[0] != (state, source):
            self._fingerprints[name] = (state, source), record_of(vit, source)
        return self._fingerprints[name][1]

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:  # noqa: D102
        # Without resuming, a run may start from parts of another one.
        if runner._resume or runner._train_loop is None:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            check_fit(model, checkpoint, resume=runner._resume)


def _source(runner: Runner, vit: PromptedViT) -> Optional[str]:
    """Where the ViT's weights can be found again."""
    if vit.weights_from == UNKNOWN:
        return runner._load_from
    return vit.weights_from


def check_fit(model: nn.Module, checkpoint: dict, resume: bool = False) -> None:
    """Refuse a checkpoint that is not whole or not of this model, prompt-only ones apart.

    Args:
        model: The model it is to be loaded into.
        checkpoint: The file's content.
        resume: Whether a run is to go on from it: then ``tune`` has to agree as well.

    Raises:
        InputError: Naming tensors and settings that do not fit.
    """
    state = checkpoint.get('state_dict', checkpoint)
    theirs = {_bare(k): v for k, v in state.items()}
    records = records_in(theirs) or records_in_meta(checkpoint.get('meta') or {})
    vits = {_bare(n): m for n, m in model.named_modules() if isinstance(m, PromptedViT)}
    for name, vit in vits.items():
        if name in records:
            check_same_model(vit, records[name])
            if records[name].output != output_config(vit):
                raise InputError(
                    f'the checkpoint was trained on features taken with {records[name].output}, '
                    f'the config says {output_config(vit)}; use the config of its own run'
                )
            if records[name].source == RANDOM:
                print_log(
                    f'{name}: the checkpoint is of a run on a random ViT, as --random-backbone '
                    'allows: its numbers mean nothing',
                    logger='current',
                    level=logging.WARNING,
                )
            if resume and records[name].tune != vit.tune:
                raise InputError(
                    f'the checkpoint was trained with tune={records[name].tune!r}, the config says '
                    f'tune={vit.tune!r}: a run goes on with the settings it was begun with'
                )
    ours = {_bare(k): v for k, v in model.state_dict().items()}
    # Of the ViT itself others speak: PromptedViT where it is left out, BackboneWeightsHook else.
    frozen = {f'{name}.{key}' for name, vit in vits.items() for key in vit.backbone_state_dict()}
    if resume and not records_in(theirs):
        frozen = set()  # a whole checkpoint is gone on from, not one that lost a block
    missing = [k for k in ours if k not in theirs and k not in frozen]
    other = [
        f'{k} {tuple(theirs[k].shape)} in the file, {tuple(v.shape)} in the model'
        for k, v in ours.items()
        if k in theirs and theirs[k].shape != v.shape and not k.endswith('.pos_embed')
    ]
    extra = [k for k in theirs if k not in ours and '.prompter.' in f'.{k}']
    problems = [
        f'{what}: {shorten(keys)}'
        for what, keys in (
            ('missing, and would be random', missing),
            ('of another shape', other),
            ('prompts without a place in the model', extra),
        )
        if keys
    ]
    if problems:
        raise InputError(
            f"the checkpoint does not fit the model: {'; '.join(problems)}. Is it a checkpoint of "
            "this config's run?"
        )


def _bare(name: str) -> str:
    """A name without those of wrappers for processes and test-time augmentation."""
    return name.replace('module.', '')


def records_json(records: Dict[str, BaseRecord]) -> str:
    """Records as they stand in a checkpoint's ``meta``."""
    return json.dumps({name: record._asdict() for name, record in records.items()})


def records_in_meta(meta: dict) -> Dict[str, BaseRecord]:
    """The inverse of :func:`records_json`, from a checkpoint's ``meta``; {} if there are none."""
    texts = meta.get(META) or {}
    try:
        texts = json.loads(texts) if isinstance(texts, str) else texts
        return {name: from_json(json.dumps(fields)) for name, fields in texts.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"the checkpoint's record of its ViT is damaged: {error}") from error


def size_table(state: dict) -> str:
    """Megabytes (10^6 bytes) of the parts of a state dict; prompts are a part by themselves."""
    parts: Dict[str, int] = {}
    for key, tensor in state.items():
        pieces = key.split('.')
        part = 'prompts' if 'prompter' in pieces else pieces[0]
        if RECORD not in pieces:
            parts[part] = parts.get(part, 0) + tensor.numel() * tensor.element_size()
    total = sum(parts.values())
    width = max(map(len, [*parts, 'all']), default=3)
    rows: List[str] = [
        f'{part:<{width}}  {size / 1e6:10.3f} MB  {size / max(total, 1):7.2%}'
        for part, size in [*parts.items(), ('all', total)]
    ]
    return '\n'.join(rows)
