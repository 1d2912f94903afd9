"""The record that a checkpoint keeps of the ViT it was trained on.

It is a tensor of the state dict, ``<backbone>.base_record``: JSON text as bytes, with the name of
the ViT and a fingerprint of the tensors left out. As a tensor it survives any code that handles
state dicts. Checkpoints of runs also have it as JSON in their ``meta``.
"""

import hashlib
import json
from typing import Dict, List, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from lspt_mm.checkpoints.backbone import BackboneDescription, DescribedBackbone
from lspt_mm.errors import InputError

#: Name of the record's tensor below the backbone's prefix.
RECORD = 'base_record'
#: Key of the records in a checkpoint's ``meta``: JSON, by name of the backbone.
META = 'lspt_mm'
#: ``source`` in the record of a run on a random ViT.
RANDOM = 'random values (--random-backbone)'


class BaseRecord(NamedTuple):
    """A checkpoint's record of the ViT it was trained on.

    Attributes:
        source: As given to ``pretrained``.
        fingerprint: Of the tensors left out (:func:`fingerprint`).
        arch: embed_dims, num_layers, num_heads and patch_size of the ViT.
        prompter: The method's config; None without one.
        tune: Which parameters were trained.
        output: How features are taken (out_type, final_norm).
        left_out: Names of the fingerprinted tensors, all unmodified since they were read.
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


def frozen_base(vit: BackboneDescription) -> Dict[str, Tensor]:
    """The ViT's tensors that a prompt-only checkpoint leaves out.

    They are frozen and equal to those in the base's file. A resized position embedding is kept,
    so that results do not depend on the local interpolation.
    """
    modified = vit.weights.modified
    if modified is None:  # unknown: assume all that may have been resized or added
        modified = ('pos_embed', 'ln2.weight', 'ln2.bias')
    kept = vit.trained.union(modified)
    return {name: tensor for name, tensor in vit.tensors.items() if name not in kept}


def record_of(backbone: DescribedBackbone, source: str) -> BaseRecord:
    """Make the record of a backbone whose weights came from ``source``."""
    vit = backbone.describe()
    base = frozen_base(vit)
    return BaseRecord(
        source=source,
        fingerprint=fingerprint(base),
        left_out=sorted(base),
        arch=vit.arch,
        prompter=None if vit.prompter is None else dict(vit.prompter),
        tune=vit.tune,
        output=vit.output,
    )


def to_tensor(record: BaseRecord) -> Tensor:
    """Encode a record as a uint8 tensor for a state dict."""
    return torch.tensor(list(_json(record._asdict()).encode()), dtype=torch.uint8)


def from_tensor(tensor: Tensor) -> BaseRecord:
    """The inverse of :func:`to_tensor`.

    Raises:
        InputError: If the tensor is not a record.
    """
    try:
        return _from_fields(json.loads(bytes(tensor.tolist()).decode()))
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f'{RECORD}: not a record of a base ({error})') from error


def _from_fields(fields: dict) -> BaseRecord:
    """Make a record from its fields; fields unknown to this version are ignored."""
    return BaseRecord(**{name: fields[name] for name in BaseRecord._fields if name in fields})


def records_in(state: dict) -> Dict[str, BaseRecord]:
    """Records of a state dict by the name of their backbone."""
    return {
        key[: -len(RECORD)].rstrip('.'): from_tensor(value)
        for key, value in state.items()
        if isinstance(key, str) and key.split('.')[-1] == RECORD
    }


def _json(content: dict) -> str:
    return json.dumps(content, default=np.generic.item)  # of arguments that are NumPy's numbers


def records_json(records: Dict[str, BaseRecord]) -> str:
    """Encode records as JSON for a checkpoint's ``meta``."""
    return _json({name: record._asdict() for name, record in records.items()})


def records_in_meta(meta: dict) -> Dict[str, BaseRecord]:
    """The inverse of :func:`records_json`, from a checkpoint's ``meta``; {} if there are none."""
    texts = meta.get(META) or {}
    try:
        texts = json.loads(texts) if isinstance(texts, str) else texts
        return {name: _from_fields(fields) for name, fields in texts.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"the checkpoint's record of its ViT is damaged: {error}") from error
