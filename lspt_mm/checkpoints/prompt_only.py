"""Prompt-only checkpoints: all of a model but the frozen ViT, and which ViT that was.

Such a checkpoint is an ordinary one without the ViT's frozen tensors. In their place stands one
tensor more, ``<backbone>.base_record``: a JSON text as bytes, which names the base and holds a
fingerprint of what was left out. As a tensor of the state dict it passes through whatever
carries state dicts about. ``PromptedViT`` reads it whenever a state dict is loaded, brings in the
base, and refuses when it is absent or another one.
"""

import hashlib
import json
import logging
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from lspt_mm.checkpoints.load_backbone import fit_backbone
from lspt_mm.errors import InputError
from lspt_mm.utils.text import shorten

#: Name of the record's tensor below the backbone's prefix.
RECORD = 'base_record'
#: ``weights_from`` of a ViT that came with a state dict of which nothing else is known.
UNKNOWN = 'a checkpoint'
#: ``source`` in the record of a run on a random ViT.
RANDOM = 'random values (--random-backbone)'


class BaseRecord(NamedTuple):
    """What a checkpoint says of the ViT it was trained on.

    ``source``: as given to ``pretrained``. ``fingerprint``: sha256 of the tensors left out (see
    :func:`fingerprint`). ``arch``: the ViT's measures. ``prompter``: the method's config, None
    without one. ``tune``: what was trained. ``output``: how the ViT's features are taken
    (out_type, final_norm). ``left_out``: the tensors of the fingerprint; those that are not as the
    base's file has them are never among them.
    """

    source: str
    fingerprint: str
    arch: dict
    prompter: Optional[dict]
    tune: str
    output: dict
    left_out: List[str]


def fingerprint(tensors: Dict[str, Tensor]) -> str:
    """Sha256 over names, shapes and float32 values of tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        digest.update(f'{name} {tuple(tensor.shape)};'.encode())
        digest.update(tensor.cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def frozen_base(vit: nn.Module) -> Dict[str, Tensor]:
    """The ViT's tensors that a prompt-only checkpoint leaves out.

    They are frozen, and as the base's file has them: a position embedding that was resized is
    kept, so that a result does not hang on the interpolation of another machine.
    """
    trained = {name for name, p in vit.named_parameters() if p.requires_grad}
    kept = trained.union(_altered(vit))
    return {n: tensor for n, tensor in vit.backbone_state_dict().items() if n not in kept}


def _altered(vit: nn.Module) -> List[str]:
    """``vit.altered``, or where that is not known, what may be."""
    if vit.altered is not None:
        return list(vit.altered)
    return [n for n in ('pos_embed', 'ln2.weight', 'ln2.bias') if n in vit.backbone_state_dict()]


def record_of(vit: nn.Module, source: str) -> BaseRecord:
    """The record of a ViT whose weights came from ``source``."""
    base = frozen_base(vit)
    return BaseRecord(
        source=source,
        fingerprint=fingerprint(base),
        left_out=sorted(base),
        arch=measures(vit),
        prompter=None if vit.prompter is None else dict(vit.prompter_cfg),
        tune=vit.tune,
        output=output_config(vit),
    )


def measures(vit: nn.Module) -> dict:
    """Width, depth, heads and patch size of a ViT."""
    return {
        'embed_dims': vit.embed_dims,
        'num_layers': vit.num_layers,
        'num_heads': vit.layers[0].attn.num_heads,
        'patch_size': list(vit.patch_embed.projection.kernel_size),
    }


def to_tensor(record: BaseRecord) -> Tensor:
    """A record as it stands in a state dict, uint8."""
    return torch.tensor(list(json.dumps(record._asdict()).encode()), dtype=torch.uint8)


def from_tensor(tensor: Tensor) -> BaseRecord:
    """The inverse of :func:`to_tensor`.

    Raises:
        InputError: If it is not one.
    """
    try:
        return from_json(bytes(tensor.tolist()).decode())
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f'{RECORD}: not a record of a base ({error})') from error


def from_json(text: str) -> BaseRecord:
    """A record from JSON; fields that this version does not know are passed over."""
    fields = json.loads(text)
    return BaseRecord(**{name: fields[name] for name in BaseRecord._fields if name in fields})


def strip_base_weights(state: dict, name: str, record: BaseRecord) -> dict:
    """A state dict without a backbone's frozen tensors, and with the record of them.

    Args:
        state: The model's state dict.
        name: The backbone's name in it, such as 'backbone'.
        record: What to write in the place of the tensors it names.
    """
    prefix = f'{name}.' if name else ''
    gone = {prefix + key for key in record.left_out}
    kept = type(state)((key, value) for key, value in state.items() if key not in gone)
    kept[prefix + RECORD] = to_tensor(record)
    return kept


def records_in(state: dict) -> Dict[str, BaseRecord]:
    """Records of a state dict by the name of the backbone they stand below."""
    return {
        key[: -len(RECORD)].rstrip('.'): from_tensor(value)
        for key, value in state.items()
        if isinstance(key, str) and key.split('.')[-1] == RECORD
    }


class Base(NamedTuple):
    """Where a base came from, and its tensors that are not as there (``PromptedViT.altered``)."""

    source: str
    altered: Tuple[str, ...]


def restore_base_weights(vit: nn.Module, state: dict, prefix: str) -> Optional[Base]:
    """Complete a prompt-only state dict with the base of its record, in place.

    Args:
        vit: The :class:`PromptedViT` that is being loaded.
        state: The state dict; without a record it is left alone.
        prefix: What stands before the backbone's names in it.

    Returns:
        Base: None if the state dict has no record.

    Raises:
        InputError: If the method is another one, or the base absent or another one.
    """
    tensor = state.pop(prefix + RECORD, None)
    if tensor is None:
        return None
    record = from_tensor(tensor)
    check_same_model(vit, record)
    if record.output != output_config(vit):
        print_log(
            f"the checkpoint's features were taken with {record.output}, this model takes them "
            f'with {output_config(vit)}: right for another task, wrong for its own head',
            logger='current',
            level=logging.WARNING,
        )
    absent = [name for name in vit.backbone_state_dict() if prefix + name not in state]
    found, source, resized = _find_base(vit, record, absent)
    brought = {name for name in vit.backbone_state_dict() if prefix + name in state}
    state.update({prefix + name: found[name] for name in absent})
    return Base(source, tuple(sorted(brought.union(resized))))


def output_config(vit: nn.Module) -> dict:
    """How a ViT's features are taken."""
    return {'out_type': vit.out_type, 'final_norm': vit.final_norm}


def check_same_model(vit: nn.Module, record: BaseRecord) -> None:
    """Raise InputError if ``record`` is of another ViT's measures or method than ``vit``."""
    if record.arch != measures(vit):
        raise InputError(
            f'the checkpoint is of a ViT with {_measures_told(record.arch)}, the config says '
            f'{_measures_told(measures(vit))}; use the config of its own run'
        )
    theirs, ours = record.prompter, None if vit.prompter is None else vit.prompter_cfg
    if (theirs and theirs['type']) != (ours and ours['type']):
        raise InputError(
            f'the checkpoint was trained with {_called(theirs)}, the config says {_called(ours)}; '
            'use the config of its own run'
        )
    if not ours:
        return
    defaults = vit.prompter.argument_defaults()
    for key in sorted({*theirs, *ours} - set(vit.prompter.TRAINING_ONLY)):
        a, b = (cfg.get(key, defaults.get(key)) for cfg in (theirs, ours))
        if _plain(a) != _plain(b):
            raise InputError(
                f"the checkpoint's prompts ({theirs['type']}) were trained with {key}={a!r}, the "
                f'config says {key}={b!r}; use the config of its own run'
            )


def _measures_told(arch: dict) -> str:
    return ', '.join(f'{key}={value}' for key, value in arch.items())


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def _called(prompter: Optional[dict]) -> str:
    return 'no prompter' if prompter is None else f"prompter type '{prompter['type']}'"


def _find_base(vit: nn.Module, record: BaseRecord, absent: List[str]):
    """The tensors ``absent``, where they came from, and which of them were resized."""
    whose = f'the prompts were trained on the ViT of {record.source}'
    altered = set(vit.altered or ())
    if vit.weights_from is not None:
        own = vit.backbone_state_dict()
        # An own position embedding that was resized says nothing of the file's.
        if not altered & set(record.left_out):
            found = base_fingerprint(own, record)
            if found == record.fingerprint:
                return {name: own[name] for name in absent}, vit.weights_from, altered
            raise InputError(
                f'{whose} (fingerprint {record.fingerprint[:12]}), which is another one than the '
                f'model has, from {vit.weights_from} ({found[:12]}). Name the right one: '
                'pretrained= in the config, or --pretrained FILE'
            )
    asked = [s for s in (vit.pretrained, vit.weights_from) if s and s != UNKNOWN]
    problems = []
    for source in dict.fromkeys([*asked, record.source]):
        try:
            fitted = fit_backbone(vit, source)
        except InputError as error:
            problems.append(str(error))
            continue
        found = base_fingerprint(fitted.original, record)
        lacking = [name for name in absent if name not in fitted.tensors]
        if found == record.fingerprint and not lacking:
            return fitted.tensors, source, set(fitted.altered) & set(absent)
        problems.append(
            f'{source}: lacks {shorten(lacking)}' if lacking else f'{source}: another ViT, of '
            f'fingerprint {found[:12]} instead of {record.fingerprint[:12]}'
        )  # fmt: skip
        if source in asked:
            break  # named on purpose and another one: the recorded one is not taken behind that
    raise InputError(
        f'this checkpoint holds prompts without their ViT; {whose}, which was not found: '
        f'{"; ".join(problems)}. Name it: pretrained= of the backbone in the config, or '
        '--pretrained FILE'
    )


def base_fingerprint(tensors: Dict[str, Tensor], record: BaseRecord) -> str:
    """The fingerprint of those tensors that the record's was taken of."""
    return fingerprint({name: tensors[name] for name in record.left_out if name in tensors})
