"""Prompt-only checkpoints: all of a model except the frozen ViT, and a record of that ViT.

``PromptedViT`` calls :func:`restore_base_weights` whenever a state dict is loaded. It finds the
base that the record names; a missing or different base is an error.
"""

import logging
from typing import Dict, List, NamedTuple, Optional, Tuple

from mmengine.logging import print_log
from torch import Tensor, equal, nn

from lspt_mm.checkpoints.backbone import (
    ADDED,
    UNKNOWN,
    BackboneDescription,
    BackboneWeights,
    prompted_backbones,
)
from lspt_mm.checkpoints.load_backbone import fit_backbone
from lspt_mm.checkpoints.records import (
    RANDOM,
    RECORD,
    BaseRecord,
    fingerprint,
    from_tensor,
    records_in,
    records_in_meta,
    to_tensor,
)
from lspt_mm.errors import InputError
from lspt_mm.utils.text import shorten


def strip_base_weights(state: dict, name: str, record: BaseRecord) -> dict:
    """Replace a backbone's frozen tensors in a state dict by the record of them.

    Args:
        state: The model's state dict.
        name: The backbone's name in it, such as 'backbone'.
        record: The record, which names the tensors to leave out.
    """
    prefix = f'{name}.' if name else ''
    gone = {prefix + key for key in record.left_out}
    kept = type(state)((key, value) for key, value in state.items() if key not in gone)
    kept[prefix + RECORD] = to_tensor(record)
    return kept


def restore_base_weights(vit: BackboneDescription, state: dict, prefix: str) -> BackboneWeights:
    """Add the base weights that a prompt-only state dict leaves out, in place.

    Args:
        vit: The backbone, before the state dict is loaded.
        state: The state dict; unchanged if it has no record.
        prefix: Prefix of the backbone's names in it.

    Returns:
        BackboneWeights: Where the backbone's weights come from once the state dict is loaded.

    Raises:
        InputError: If the method or the base differs, or the base is not found.
    """
    tensor = state.pop(prefix + RECORD, None)
    source, modified = vit.weights.source, vit.weights.modified
    if tensor is not None:
        source, modified = _restore(vit, from_tensor(tensor), state, prefix)
    # The ViT counts as trained only if the state dict holds all of it.
    elif _holds_whole(vit, state, prefix) and not _holds_frozen_part(vit, state, prefix):
        source, modified = UNKNOWN, None
    prompts = any(key.startswith(f'{prefix}prompter.') for key in state)
    return BackboneWeights(source, modified, vit.weights.prompts or prompts, source is None)


def _holds_whole(vit: BackboneDescription, state: dict, prefix: str) -> bool:
    def fits(name: str, value: Tensor) -> bool:
        found = state.get(prefix + name)
        if name == 'pos_embed' and found is not None:  # mmpretrain resizes it on loading
            return found.shape[-1:] == value.shape[-1:]
        return found is not None and found.shape == value.shape

    return all(fits(name, value) for name, value in vit.tensors.items())


def _holds_frozen_part(vit: BackboneDescription, state: dict, prefix: str) -> bool:
    """Whether the frozen tensors in a whole state dict equal those of this ViT."""
    return vit.weights.source is not None and all(
        name in vit.trained or equal(state[prefix + name].to(value), value)
        for name, value in vit.tensors.items()
    )


def _restore(vit: BackboneDescription, record: BaseRecord, state: dict, prefix: str):
    """Add the tensors that the record left out; return source and names of modified tensors."""
    check_same_model(vit, record)
    if record.output != vit.output:
        print_log(
            f"the checkpoint's features were taken with {record.output}, this model takes them "
            f'with {vit.output}: right for another task, wrong for its own head',
            logger='current',
            level=logging.WARNING,
        )
    brought = {name for name in vit.tensors if prefix + name in state}
    absent = [name for name in vit.tensors if name not in brought]
    base = _find_base(vit, record, absent)
    state.update({prefix + name: base.tensors[name] for name in absent})
    return base.source, tuple(sorted(brought.union(base.modified)))


def check_same_model(vit: BackboneDescription, record: BaseRecord) -> None:
    """Raise InputError if the ViT's size or the method in ``record`` differs."""
    if record.arch != vit.arch:
        theirs, ours = (
            ', '.join(f'{key}={value}' for key, value in arch.items())
            for arch in (record.arch, vit.arch)
        )
        raise InputError(
            f'the checkpoint is of a ViT with {theirs}, the config says {ours}; use the config of '
            'its own run'
        )
    theirs, ours = record.prompter, vit.prompter
    if (theirs and theirs['type']) != (ours and ours['type']):
        raise InputError(
            f'the checkpoint was trained with {_called(theirs)}, the config says {_called(ours)}; '
            'use the config of its own run'
        )
    if not ours:
        return
    for key in sorted({*theirs, *ours} - set(vit.training_only)):
        a, b = (cfg.get(key, vit.defaults.get(key)) for cfg in (theirs, ours))
        if _as_json(a) != _as_json(b):
            raise InputError(
                f"the checkpoint's prompts ({theirs['type']}) were trained with {key}={a!r}, the "
                f'config says {key}={b!r}; use the config of its own run'
            )


def _as_json(value):
    return list(value) if isinstance(value, tuple) else value


def _called(prompter: Optional[dict]) -> str:
    return 'no prompter' if prompter is None else f"prompter type '{prompter['type']}'"


class _Base(NamedTuple):
    """Tensors of a base, their source, and the names of modified ones."""

    tensors: Dict[str, Tensor]
    source: str
    modified: Tuple[str, ...]


def _find_base(vit: BackboneDescription, record: BaseRecord, absent: List[str]) -> _Base:
    """Find the base of a record, in the model or in a file."""
    whose = f'the prompts were trained on the ViT of {record.source}'
    modified = vit.weights.modified or ()
    # If the model's position embedding was resized, it cannot be compared with the file's.
    if vit.weights.source is not None and not set(modified) & set(record.left_out):
        found = base_fingerprint(vit.tensors, record)
        if found == record.fingerprint:
            return _Base(vit.tensors, vit.weights.source, modified)
        raise InputError(
            f'{whose} (fingerprint {record.fingerprint[:12]}), which differs from the loaded '
            f'backbone, from {vit.weights.source} ({found[:12]}). Give the right one: '
            'pretrained= in the config, or --pretrained FILE'
        )
    given = [s for s in (vit.pretrained, vit.weights.source) if s and s != UNKNOWN]
    problems = []
    for source in dict.fromkeys([*given, record.source]):
        try:
            fitted = fit_backbone(vit, source)
        except InputError as error:
            problems.append(str(error))
            continue
        found = base_fingerprint(fitted.original, record)
        lacking = [name for name in absent if name not in fitted.tensors]
        if found == record.fingerprint and not lacking:
            return _Base(fitted.tensors, source, tuple(set(fitted.modified) & set(absent)))
        problems.append(
            f'{source}: lacks {shorten(lacking)}' if lacking else f'{source}: another ViT, of '
            f'fingerprint {found[:12]} instead of {record.fingerprint[:12]}'
        )
        if source in given:
            break  # given explicitly: the recorded one does not replace it
    raise InputError(
        f'this checkpoint holds prompts without their ViT; {whose}, which was not found: '
        f'{"; ".join(problems)}. Give it: pretrained= of the backbone in the config, or '
        '--pretrained FILE'
    )


def base_fingerprint(tensors: Dict[str, Tensor], record: BaseRecord) -> str:
    """Fingerprint of the tensors that the record's fingerprint covers."""
    return fingerprint({name: tensors[name] for name in record.left_out if name in tensors})


def check_fit(model: nn.Module, checkpoint: dict, resume: bool = False) -> None:
    """Raise InputError if a checkpoint is incomplete or does not fit the model.

    Prompt-only checkpoints may lack the frozen ViT.

    Args:
        model: The model it is to be loaded into.
        checkpoint: The file's content.
        resume: Whether a run resumes from it; then ``tune`` must agree as well.

    Raises:
        InputError: Naming tensors and settings that do not fit.
    """
    state = checkpoint.get('state_dict', checkpoint)
    theirs = {_bare(k): v for k, v in state.items()}
    records = records_in(theirs) or records_in_meta(checkpoint.get('meta') or {})
    vits = {_bare(name): vit.describe() for name, vit in prompted_backbones(model).items()}
    for name, vit in vits.items():
        if name in records:
            check_same_model(vit, records[name])
            if records[name].output != vit.output:
                raise InputError(
                    f'the checkpoint was trained on features taken with {records[name].output}, '
                    f'the config says {vit.output}; use the config of its own run'
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
                    f'tune={vit.tune!r}: a run resumes with its own settings'
                )
    ours = {_bare(k): v for k, v in model.state_dict().items()}
    # PromptedViT checks a ViT that is left out, BackboneWeightsHook any other.
    frozen = {f'{name}.{key}' for name, vit in vits.items() for key in vit.tensors}
    if resume and not records_in(theirs):
        frozen = set()  # never resume from a full checkpoint that lacks a block
    missing = [k for k in ours if k not in theirs and k not in frozen]
    other = [
        f'{k} {tuple(theirs[k].shape)} in the file, {tuple(v.shape)} in the model'
        for k, v in ours.items()
        if k in theirs and not _fits(theirs[k], v) and not k.endswith('.pos_embed')
    ]
    extra = [k for k in theirs if k not in ours and any(f'.{part}' in f'.{k}' for part in ADDED)]
    problems = [
        f'{what}: {shorten(keys)}'
        for what, keys in (
            ('missing (would be random)', missing),
            ('of another shape', other),
            ('prompts or LoRA without a place in the model', extra),
        )
        if keys
    ]
    if problems:
        raise InputError(
            f"the checkpoint does not fit the model: {'; '.join(problems)}. Is it a checkpoint of "
            "this config's run?"
        )


def _fits(found: Tensor, own: Tensor) -> bool:
    """Whether shapes agree; tensors without a row get their number of rows from the data."""
    without_rows = own.dim() > 0 and len(own) == 0
    return found.shape == own.shape or (without_rows and found.shape[1:] == own.shape[1:])


def _bare(name: str) -> str:
    """Remove the names of wrappers (distributed, test-time augmentation) from a name."""
    return name.replace('module.', '')
