"""Telling whose ViT a state dict holds, and giving its tensors mmpretrain's names."""

import re
from typing import Dict, List, NamedTuple

from torch import Tensor

#: Under these keys the known families keep their state dict.
_WRAPPERS = ('state_dict', 'model', 'teacher')

#: What may stand before a ViT's keys, most specific first: MoCo v3's pre-training file holds two
#: encoders, of which the base encoder is the one to use.
_PREFIXES = ('module.base_encoder.', 'base_encoder.', 'module.', 'backbone.', 'encoder.', '')

#: timm's names (MAE, MoCo v3, DeiT, DINO) to mmpretrain's.
_TIMM_TO_MMPRETRAIN = (
    (r'^patch_embed\.proj\.', 'patch_embed.projection.'),
    (r'^norm\.', 'ln1.'),
    (r'^fc_norm\.', 'ln2.'),
    (r'^blocks\.(\d+)\.norm([12])\.', r'layers.\1.ln\2.'),
    (r'^blocks\.(\d+)\.mlp\.fc1\.', r'layers.\1.ffn.layers.0.0.'),
    (r'^blocks\.(\d+)\.mlp\.fc2\.', r'layers.\1.ffn.layers.1.'),
    (r'^blocks\.(\d+)\.ls1\.gamma$', r'layers.\1.attn.gamma1.weight'),
    (r'^blocks\.(\d+)\.ls2\.gamma$', r'layers.\1.ffn.gamma2.weight'),
    (r'^blocks\.(\d+)\.', r'layers.\1.'),
)

_VIT_KEYS = re.compile(r'^(cls_token|pos_embed|patch_embed\.|layers\.|ln1\.|ln2\.|pre_norm\.)')


class Mapped(NamedTuple):
    """``tensors`` under mmpretrain's names, the keys set aside, and the family's name."""

    tensors: Dict[str, Tensor]
    ignored: List[str]
    family: str


def to_mmpretrain(checkpoint: dict) -> Mapped:
    """Find a ViT in a checkpoint and rename its tensors as mmpretrain's ``VisionTransformer``.

    Known: MAE (official), MoCo v3 (official), timm and its kin, mmpretrain with and without
    ``backbone.``. Heads, decoders, projectors and momentum encoders are set aside.

    Raises:
        ValueError: If there is no ViT in it; the message shows some of its keys.
    """
    state = unwrap(checkpoint)
    prefix = next((p for p in _PREFIXES if _has_vit(state, p)), None)
    if prefix is None:
        shown = ', '.join(map(str, list(state)[:5])) or 'none at all'
        raise ValueError(f'no Vision Transformer in it; its first keys: {shown}')
    inner = {k[len(prefix) :]: k for k in state if k.startswith(prefix)}
    timm_names = any(k.startswith('blocks.') for k in inner)
    tensors, used = {}, set()
    for name, key in inner.items():
        new = _rename(name) if timm_names else name
        if _VIT_KEYS.match(new) and isinstance(state[key], Tensor):
            tensors[new] = state[key]
            used.add(key)
    family = 'timm or MAE' if timm_names else 'mmpretrain'
    if 'base_encoder' in prefix:
        family = 'MoCo v3'
    return Mapped(tensors, [k for k in state if k not in used], family)


def unwrap(checkpoint: dict) -> dict:
    """The state dict inside a checkpoint, or the checkpoint itself."""
    for key in _WRAPPERS:
        if isinstance(checkpoint.get(key), dict):
            return checkpoint[key]
    return checkpoint


def _has_vit(state: dict, prefix: str) -> bool:
    return any(f'{prefix}patch_embed.{name}.weight' in state for name in ('proj', 'projection'))


def _rename(name: str) -> str:
    for pattern, new in _TIMM_TO_MMPRETRAIN:
        name, count = re.subn(pattern, new, name)
        if count:
            break
    return name
