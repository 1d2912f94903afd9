"""Loads a pre-trained ViT into a :class:`PromptedViT`; any mismatch is an error."""

from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from mmengine.logging import print_log
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from lspt_mm.checkpoints.backbone import BackboneDescription, DescribedBackbone
from lspt_mm.checkpoints.io import read_checkpoint
from lspt_mm.checkpoints.key_mapping import (
    Grid,
    Mapped,
    find_timm_names,
    group_ignored_keys,
    to_mmpretrain,
)
from lspt_mm.checkpoints.mismatch_hints import mismatch_hints
from lspt_mm.errors import InputError
from lspt_mm.utils.text import shorten


class LoadReport(NamedTuple):
    """Which tensors of a checkpoint were loaded, by mmpretrain's names (``ignored``: the file's).

    ``left_at_start``: tensors without a counterpart in pre-training files. No tensor is ever
    missing: that is an error.
    """

    family: str
    loaded: List[str]
    resized: List[str]
    ignored: List[str]
    left_at_start: List[str]
    note: str = ''


class Fitted(NamedTuple):
    """Tensors of a ViT as a model takes them, the same before resizing, and the report."""

    tensors: Dict[str, Tensor]
    original: Dict[str, Tensor]
    report: LoadReport

    @property
    def modified(self) -> Tuple[str, ...]:
        """Names of the ViT's tensors that differ from the file."""
        resized = (k for k, v in self.tensors.items() if v is not self.original[k])
        return (*resized, *self.report.left_at_start)


def load_backbone(
    vit: DescribedBackbone, source: str, grid: Optional[Grid] = None
) -> LoadReport:
    """Load the ViT's weights from ``source`` and log a report.

    Position embeddings are resized to the model's grid, except the class token's row. A class
    token that the model does not use is dropped.

    Args:
        vit: A ``PromptedViT``; its prompter is not touched.
        source: Path, URL or ``timm:NAME``, see :func:`lspt_mm.checkpoints.load_vit_state_dict`.
        grid: Rows and columns of the file's position embedding, if not a square.

    Raises:
        InputError: If any tensor of the ViT is missing, of another shape, not finite or without a
            place in the model. Nothing is loaded then.
    """
    fitted = fit_backbone(vit.describe(), source, grid)
    vit.load_state_dict(fitted.tensors, strict=False)
    vit.weights = vit.weights._replace(
        source=str(source), modified=fitted.modified, incomplete=False
    )
    print_log(describe(source, fitted.report), logger='current')
    return fitted.report


def fit_backbone(
    vit: BackboneDescription, source: str, grid: Optional[Grid] = None
) -> Fitted:
    """Return what :func:`lspt_mm.checkpoints.load_backbone` would load, without loading it.

    Raises:
        InputError: As :func:`lspt_mm.checkpoints.load_backbone`.
    """
    source = str(source)
    if vit.translate is not None:
        return _fit_timm(vit, source)
    mapped = load_vit_state_dict(source, grid, fallback_grid=vit.grid)
    wanted = vit.tensors
    original = dict(mapped.tensors)
    if vit.pools_before_norm and 'ln2.weight' in original and 'ln1.weight' not in original:
        # Files fine-tuned on pooled patches have a norm only after the mean, as this model has.
        for kind in [k[4:] for k in original if k.startswith('ln2.')]:
            original[f'ln1.{kind}'] = original.pop(f'ln2.{kind}')
    pos = original.get('pos_embed')
    if pos is not None and pos.ndim == 3 and not vit.num_extra_tokens and 'cls_token' in original:
        original['pos_embed'] = pos[:, 1:]  # a class token's row, for a model without one
    tensors, resized = _fit_pos_embed(vit, original, mapped.grid)
    # avg_featmap's norm of the pooled patches has no counterpart in pre-training files: it starts
    # as the identity, so nothing is lost.
    fresh = [k for k in wanted if k.startswith('ln2.') and k not in tensors]
    _check(source, vit, wanted, tensors, fresh, mapped.num_heads)
    chosen = {k: tensors[k] for k in wanted if k not in fresh}
    report = LoadReport(
        family=mapped.family,
        loaded=list(chosen),
        resized=resized,
        ignored=mapped.ignored + [k for k in tensors if k not in wanted],
        left_at_start=fresh,
        note=mapped.note,
    )
    return Fitted(chosen, {k: original[k] for k in chosen}, report)


def _fit_pos_embed(
    vit: BackboneDescription, tensors: Dict[str, Tensor], grid: Optional[Grid]
) -> Tuple[Dict[str, Tensor], List[str]]:
    """Resize the position embedding from ``grid`` to that of ``vit`` where it differs."""
    pos = tensors.get('pos_embed')
    h, w = vit.grid
    extra = vit.num_extra_tokens
    if grid is None or grid == (h, w) or pos is None or pos.ndim != 3:
        return tensors, []  # the check of shapes reports what does not fit
    if pos.size(2) != vit.arch['embed_dims'] or pos.size(1) != extra + grid[0] * grid[1]:
        return tensors, []
    pos = resize_pos_embed(pos.float(), grid, (h, w), vit.interpolate_mode, extra)
    return dict(tensors, pos_embed=pos), [f'pos_embed {grid[0]}x{grid[1]} -> {h}x{w}']


def _fit_timm(vit: BackboneDescription, source: str) -> Fitted:
    """As :func:`fit_backbone`, for a ViT with timm's names."""
    wanted = vit.tensors
    try:
        if source.startswith(TIMM):
            state, family = timm_model(source[len(TIMM) :]).state_dict(), 'timm'
        else:
            checkpoint, family = read_checkpoint(source), "a file of timm's kin"
            state = find_timm_names(checkpoint)
            if not state:
                raise ValueError('no Vision Transformer in it, no tensor at all')
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f'{source}: {error}') from error
    try:
        tensors = vit.translate(dict(state))
    except Exception as error:  # timm cannot read the file
        raise InputError(
            f'{source}: timm cannot read it as {vit.arch["model"]} ({error})'
        ) from error
    names = {key: key.partition('.')[2] for key in tensors if key not in wanted}  # without vit.
    kinds = group_ignored_keys(list(names.values()))
    extra = [key for key, name in names.items() if name in kinds.get('unknown', ())]
    patches = state.get('patch_embed.proj.weight')
    if patches is not None and patches.ndim == 4:
        tensors['vit.patch_embed.proj.weight'] = patches  # timm resizes it: another ViT
    problems = _problems(wanted, tensors, (), extra)
    if problems:
        raise InputError(
            f'{source}: these weights do not fit {vit.arch["model"]}; {"; ".join(problems)}; '
            'likely cause: they belong to another model'
        )
    check_sound(source, {k: tensors[k] for k in wanted})
    chosen = {k: tensors[k] for k in wanted}
    original, resized = dict(chosen), []
    pos, name = state.get('pos_embed'), 'vit.pos_embed'
    if name in chosen and pos is not None and pos.shape != chosen[name].shape:
        original[name] = pos
        resized.append(f'{name} {tuple(pos.shape)} -> {tuple(chosen[name].shape)}')
    report = LoadReport(family, list(chosen), resized, list(names.values()), [])
    return Fitted(chosen, original, report)


def _check(source, vit, wanted, tensors, fresh, num_heads) -> None:
    # A final norm and a class token may be unused; all other tensors affect the ViT's output.
    unused = ('ln1.', 'ln2.', 'cls_token')
    extra = [k for k in tensors if k not in wanted and not k.startswith(unused)]
    problems = _problems(wanted, tensors, fresh, extra)
    heads = vit.arch['num_heads']
    other_heads = num_heads is not None and num_heads != heads
    if other_heads:
        problems.append(f'attention of {num_heads} heads in the file, of {heads} in the model')
    if problems:
        missing = [k for k in wanted if k not in tensors and k not in fresh]
        causes = mismatch_hints(wanted, tensors, missing, num_heads if other_heads else None)
        raise InputError(
            f'{source}: these weights do not fit the model; {"; ".join(problems)}; likely cause: '
            f'{"; ".join(causes)}'
        )
    check_sound(source, {k: tensors[k] for k in wanted if k in tensors})


def _problems(wanted, tensors, fresh, extra) -> List[str]:
    """Describe the tensors of a file that do not fit those of a model."""
    missing = [k for k in wanted if k not in tensors and k not in fresh]
    other = [
        f'{k} {tuple(tensors[k].shape)} in the file, {tuple(wanted[k].shape)} in the model'
        for k in wanted
        if k in tensors and tensors[k].shape != wanted[k].shape
    ]
    found = {
        'missing': missing, 'of another shape': other, 'without a place in the model': extra
    }
    return [f'{what}: {shorten(keys)}' for what, keys in found.items() if keys]


def check_sound(source: str, tensors: Dict[str, Tensor]) -> None:
    """Raise InputError for tensors that cannot be weights: integer, sparse or not finite."""
    bad = [k for k, tensor in tensors.items() if not _is_sound(tensor)]
    if bad:
        raise InputError(
            f'{source}: tensors that are not finite floating point numbers: {shorten(bad)}; the '
            'file is damaged or quantised to integers'
        )


def _is_sound(tensor: Tensor) -> bool:
    if tensor.layout is not torch.strided or not tensor.is_floating_point():
        return False
    return bool(torch.isfinite(tensor.float()).all())


def describe(source: str, report: LoadReport) -> str:
    """Format the report for the log."""
    text = f'ViT weights from {source} ({report.family}): {len(report.loaded)} tensors loaded'
    if report.resized:
        text += f'; resized: {", ".join(report.resized)}'
    for kind, keys in group_ignored_keys(report.ignored).items():
        if kind == 'unknown':
            text += f'; ignored, of unknown purpose: {shorten(keys)}'
        else:
            text += f'; ignored on purpose, {kind} ({len(keys)}), such as {keys[0]}'
    if report.left_at_start:
        text += f'; not in the file, left at their initial values: {shorten(report.left_at_start)}'
    return text + '; missing: none' + (f'; {report.note}' if report.note else '')


TIMM = 'timm:'


def load_vit_state_dict(
    source: str,
    grid: Optional[Grid] = None,
    fallback_grid: Optional[Grid] = None,
) -> Mapped:
    """Read a ViT and convert it to mmpretrain's names.

    Args:
        source: Path or URL of a checkpoint of any supported origin (a trailing ``#sha256=...`` is
            checked), or ``timm:NAME``, a pre-trained ``VisionTransformer`` by its name in
            ``timm.create_model`` (also ``local-dir:FOLDER`` and ``hf-hub:USER/NAME``).
        grid: Rows and columns of a file's patches, if not a square.
        fallback_grid: Grid of the model, used if the number of patches is not a square.

    Returns:
        Mapped: The tensors under mmpretrain's names, and the keys that are ignored.

    Raises:
        InputError: If it cannot be read, or holds no ViT.
    """
    if source.startswith(TIMM):
        return _read_timm(source[len(TIMM) :])
    return vit_in(read_checkpoint(source), source, grid, fallback_grid)


def vit_in(
    checkpoint: dict, source: str, grid: Optional[Grid] = None, fallback_grid: Optional[Grid] = None
) -> Mapped:
    """As :func:`load_vit_state_dict`, for a checkpoint that has been read already."""
    try:
        return to_mmpretrain(checkpoint, grid, fallback_grid)
    except ValueError as error:
        raise InputError(f'{source}: {error}') from error


def timm_model(name: str) -> nn.Module:
    """Create a pre-trained timm model of any class.

    Raises:
        InputError: If timm cannot create it.
    """
    import timm

    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # timm, its hub and its loaders raise many types
        raise InputError(
            f'timm:{name}: timm cannot create this pre-trained model ({type(error).__name__}: '
            f'{str(error).splitlines()[0] if str(error) else "no message"}). '
            "timm.list_models('vit*', pretrained=True) lists the names; without a connection, "
            'give a file (HF_HUB_OFFLINE=1 in the environment skips the attempts to download)'
        ) from error


def _read_timm(name: str) -> Mapped:
    from timm.models.vision_transformer import VisionTransformer

    model = timm_model(name)
    if not isinstance(model, VisionTransformer):
        raise InputError(
            f'timm:{name}: is a {type(model).__name__}, expected a VisionTransformer of timm; '
            f"backbone=dict(type='lspt_mm.TimmPromptedViT', model='{name}', ...) supports more"
        )
    _check_function(name, model)
    mapped = to_mmpretrain(model.state_dict(), grid=model.patch_embed.grid_size)
    cfg = model.pretrained_cfg
    return mapped._replace(
        family='timm',
        num_heads=model.blocks[0].attn.num_heads,
        note=f'trained on images normalised by mean {cfg["mean"]}, std {cfg["std"]} (of 0 to 1): '
        'data_preprocessor has to do the same',
    )


def _check_function(name: str, model: nn.Module) -> None:
    """Raise InputError if timm's model computes another function than mmpretrain's ViT."""
    found = differences(model)
    if found:
        raise InputError(
            f'timm:{name}: not the ViT that mmpretrain computes: {"; ".join(found)}; '
            f"backbone=dict(type='lspt_mm.TimmPromptedViT', model='{name}', ...) supports it"
        )


def differences(model: nn.Module) -> List[str]:
    """List how the computation of timm's ``VisionTransformer`` differs from mmpretrain's."""
    block = model.blocks[0]
    attn, mlp = getattr(block, 'attn', None), getattr(block, 'mlp', None)
    found = []
    if type(block).__name__ != 'Block' or type(attn).__name__ != 'Attention':
        return [f'blocks of another form ({type(block).__name__} with {type(attn).__name__})']
    if type(mlp).__name__ != 'Mlp' or not isinstance(mlp.norm, nn.Identity):
        found.append(f'MLP of another form ({type(mlp).__name__})')
    if not isinstance(getattr(mlp, 'act', None), nn.GELU):
        found.append(f'activation {type(getattr(mlp, "act", None)).__name__}, not GELU')
    elif getattr(mlp.act, 'approximate', 'none') != 'none':
        found.append('an approximate GELU')
    if type(block.norm1).__name__ != 'LayerNorm':
        found.append(f'norms of another form ({type(block.norm1).__name__})')
    elif abs(block.norm1.eps - 1e-6) > 1e-9:
        found.append(f'norms with eps {block.norm1.eps}, not 1e-6')
    if not all(isinstance(part, nn.Identity) for part in (attn.q_norm, attn.k_norm, attn.norm)):
        found.append('norms in the attention')
    if attn.gate is not None:
        found.append('gated attention')
    if type(model.patch_embed).__name__ != 'PatchEmbed':
        found.append(f'patches by another network ({type(model.patch_embed).__name__})')
    if getattr(model, 'rope', None) is not None:
        found.append('rotary position embedding')
    return found
