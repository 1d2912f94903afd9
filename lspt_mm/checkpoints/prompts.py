"""Prompt-only checkpoints: all of a model but the frozen ViT, and which ViT that was.

Such a checkpoint is an ordinary one without the ViT's frozen tensors. In their place stands one
tensor more, ``<backbone>.base_record``: a JSON text as bytes, which names the base and holds a
fingerprint of what was left out. As a tensor of the state dict it passes through whatever
carries state dicts about. ``PromptedViT`` reads it whenever a state dict is loaded, brings in the
base, and refuses when it is absent or another one.
"""

import hashlib
import json
from typing import Dict, Iterable, List, NamedTuple, Optional

import torch
from torch import Tensor, nn

from lspt_mm.checkpoints.backbone import fit_backbone, some
from lspt_mm.errors import InputError

#: Name of the record's tensor below the backbone's prefix.
RECORD = 'base_record'
#: ``weights_from`` of a ViT that came with a state dict of which nothing else is known.
UNKNOWN = 'a checkpoint'


class BaseRecord(NamedTuple):
    """What a checkpoint says of the ViT it was trained on.

    ``source``: as given to ``pretrained``. ``fingerprint``: sha256 of the tensors left out (see
    :func:`fingerprint`). ``arch``: the ViT's measures. ``prompter``: the method's config, None
    without one. ``tune``: what was trained. ``altered``: frozen tensors that are not as the
    base's file has them, and so are never left out.
    """

    source: str
    fingerprint: str
    arch: dict
    prompter: Optional[dict]
    tune: str
    altered: List[str]


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
    return BaseRecord(
        source=source,
        fingerprint=fingerprint(frozen_base(vit)),
        arch=measures(vit),
        prompter=None if vit.prompter is None else dict(vit.prompter_cfg),
        tune=vit.tune,
        altered=_altered(vit),
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


def without_base(state: dict, name: str, left_out: Iterable[str], record: BaseRecord) -> dict:
    """A state dict without a backbone's frozen tensors, and with the record of them.

    Args:
        state: The model's state dict.
        name: The backbone's name in it, such as 'backbone'.
        left_out: Names of tensors below the backbone.
        record: What to write in their place.
    """
    prefix = f'{name}.' if name else ''
    gone = {prefix + key for key in left_out}
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


def bring_in_base(vit: nn.Module, state: dict, prefix: str) -> Optional[str]:
    """Complete a prompt-only state dict with the base of its record, in place.

    Args:
        vit: The :class:`PromptedViT` that is being loaded.
        state: The state dict; without a record it is left alone.
        prefix: What stands before the backbone's names in it.

    Returns:
        str: Where the base came from; None if there was nothing to do, or the ViT has the base
        already.

    Raises:
        InputError: If the method is another one, or the base absent or another one.
    """
    tensor = state.pop(prefix + RECORD, None)
    if tensor is None:
        return None
    record = from_tensor(tensor)
    check_same_method(vit, record)
    absent = [name for name in vit.backbone_state_dict() if prefix + name not in state]
    found, source = _find_base(vit, record, absent)
    state.update({prefix + name: found[name] for name in absent})
    return source


def check_same_method(vit: nn.Module, record: BaseRecord) -> None:
    """Raise InputError if the prompts of ``record`` are of another method than ``vit``'s."""
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


def _plain(value):
    return list(value) if isinstance(value, tuple) else value


def _called(prompter: Optional[dict]) -> str:
    return 'no prompter' if prompter is None else f"prompter type '{prompter['type']}'"


def _find_base(vit: nn.Module, record: BaseRecord, absent: List[str]):
    """The tensors ``absent``, and where they came from (None: ``vit`` has them)."""
    whose = f'the prompts were trained on the ViT of {record.source}'
    if vit.weights_from is not None:
        own = {name: vit.backbone_state_dict()[name] for name in absent}
        # An own position embedding that was resized says nothing of the file's.
        if not set(vit.altered or ()) & set(absent):
            if fingerprint(own) == record.fingerprint:
                return own, None
            raise InputError(
                f'{whose} (fingerprint {record.fingerprint[:12]}), which is another one than the '
                f'model has, from {vit.weights_from} ({fingerprint(own)[:12]}). Name the right '
                'one: pretrained= in the config, or --pretrained FILE'
            )
    asked = [s for s in (vit.pretrained, vit.weights_from) if s and s != UNKNOWN]
    problems = []
    for source in dict.fromkeys([*asked, record.source]):
        try:
            fitted = fit_backbone(vit, source)
        except InputError as error:
            problems.append(str(error))
            continue
        lacking = [name for name in absent if name not in fitted.original]
        found = {name: fitted.original[name] for name in absent if name not in lacking}
        if not lacking and fingerprint(found) == record.fingerprint:
            return fitted.tensors, source
        if lacking:
            problems.append(f'{source}: lacks {some(lacking)}')
        else:
            problems.append(
                f'{source}: another ViT, of fingerprint {fingerprint(found)[:12]} instead of '
                f'{record.fingerprint[:12]}'
            )
        if source in asked:
            break  # named on purpose and another one: the recorded one is not taken behind that
    raise InputError(
        f'this checkpoint holds prompts without their ViT; {whose}, which was not found: '
        f'{"; ".join(problems)}. Name it: pretrained= of the backbone in the config, or '
        '--pretrained FILE'
    )
