"""Loading a pre-trained ViT into a :class:`PromptedViT`, wholly or not at all."""

from typing import Dict, List, NamedTuple

from mmengine.logging import print_log
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from lspt_mm.checkpoints.families import to_mmpretrain
from lspt_mm.checkpoints.files import read_checkpoint
from lspt_mm.errors import InputError


class LoadReport(NamedTuple):
    """What became of a checkpoint's tensors, by mmpretrain's names (``ignored``: the file's)."""

    family: str
    loaded: List[str]
    resized: List[str]
    ignored: List[str]
    left_at_start: List[str]


def load_backbone(vit: nn.Module, source: str) -> LoadReport:
    """Read the ViT's weights from ``source`` (path or URL) and log a report of it.

    Position embeddings are resized to the model's grid, the class token's row apart. A class
    token the model has no use for is dropped.

    Args:
        vit: A ``PromptedViT``; its prompter is not touched.

    Raises:
        InputError: If any tensor of the ViT is missing or of another shape; nothing is loaded.
    """
    try:
        tensors, ignored, family = to_mmpretrain(read_checkpoint(source))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f'{source}: {error}') from error
    wanted = vit.backbone_state_dict()
    tensors, resized = _fit_pos_embed(vit, tensors, family)
    # avg_featmap's norm of the pooled patches has no counterpart in pre-training files: it starts
    # as the identity, which loses nothing.
    fresh = [k for k in wanted if k.startswith('ln2.') and k not in tensors]
    _check(source, wanted, tensors, fresh)
    vit.load_state_dict({k: tensors[k] for k in wanted if k not in fresh}, strict=False)
    vit.weights_from = source
    report = LoadReport(
        family=family,
        loaded=[k for k in wanted if k not in fresh],
        resized=resized,
        ignored=ignored + [k for k in tensors if k not in wanted],
        left_at_start=fresh,
    )
    print_log(_describe(source, report), logger='current')
    return report


def _fit_pos_embed(vit: nn.Module, tensors: Dict[str, Tensor], family: str):
    """Resize the position embedding to the grid of ``vit`` where it differs."""
    pos = tensors.get('pos_embed')
    extra = vit.num_extra_tokens
    if pos is None or pos.ndim != 3:
        return tensors, []
    h, w = vit.patch_resolution
    # Files of timm's kin are of square grids: 2x8 patches are as many as 4x4, in other places.
    # mmpretrain's may come from this very model.
    if pos.shape[1:] == vit.pos_embed.shape[1:] and (h == w or family == 'mmpretrain'):
        return tensors, []
    side = int((pos.size(1) - 1) ** 0.5)
    if side * side == pos.size(1) - 1 and extra == 0:
        pos = pos[:, 1:]  # a class token's row, for a model without one
    side = int((pos.size(1) - extra) ** 0.5)
    if side * side != pos.size(1) - extra:
        return tensors, []  # not a square grid: left for the check of shapes to report
    note = f'pos_embed {side}x{side} -> {vit.patch_resolution[0]}x{vit.patch_resolution[1]}'
    pos = resize_pos_embed(
        pos.float(), (side, side), vit.patch_resolution, vit.interpolate_mode, extra
    )
    return dict(tensors, pos_embed=pos), [note]


def _check(source: str, wanted: Dict[str, Tensor], tensors: Dict[str, Tensor], fresh) -> None:
    missing = [k for k in wanted if k not in tensors and k not in fresh]
    other = [
        f'{k} {tuple(tensors[k].shape)} in the file, {tuple(wanted[k].shape)} in the model'
        for k in wanted
        if k in tensors and tensors[k].shape != wanted[k].shape
    ]
    deeper = [k for k in tensors if k.startswith('layers.') and k not in wanted]
    if not (missing or other or deeper):
        return
    parts = [f'{source}: these weights do not fit the model']
    if missing:
        parts.append(f'missing ({len(missing)}): {_some(missing)}')
    if other:
        parts.append(f'of another shape ({len(other)}): {_some(other)}')
    if deeper:
        parts.append(f'blocks the model does not have ({len(deeper)}): {_some(deeper)}')
    patch = any(k.startswith('patch_embed.projection.weight') for k in other)
    cause = 'patch_size' if patch and len(other) <= 2 else 'arch (width, depth)'
    parts.append(f'likely cause: another {cause} than the file was made with')
    raise InputError('; '.join(parts))


def _some(items: List[str], shown: int = 4) -> str:
    return ', '.join(items[:shown]) + (', ...' if len(items) > shown else '')


def _describe(source: str, report: LoadReport) -> str:
    text = f'ViT weights from {source} ({report.family}): {len(report.loaded)} tensors loaded'
    if report.resized:
        text += f'; resized: {", ".join(report.resized)}'
    if report.ignored:
        text += f'; ignored on purpose ({len(report.ignored)}): {_some(report.ignored)}'
    if report.left_at_start:
        text += f'; not in the file, left at their start: {_some(report.left_at_start)}'
    return text
