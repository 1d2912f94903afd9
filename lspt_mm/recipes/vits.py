"""Measures of a ViT, by its name in timm (nothing is downloaded) or by the tensors of a file."""

import functools
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import torch
from mmpretrain.models.backbones.vision_transformer import VisionTransformer

from lspt_mm.checkpoints.download import existing_file, is_url
from lspt_mm.checkpoints.io import read_checkpoint
from lspt_mm.checkpoints.key_mapping import find_timm_names
from lspt_mm.checkpoints.load_backbone import TIMM, differences, vit_in
from lspt_mm.checkpoints.mismatch_hints import depth_of
from lspt_mm.errors import InputError
from lspt_mm.models.vit_arguments import check_arch
from lspt_mm.utils.atomic_io import read_json
from lspt_mm.utils.checks import check_int
from lspt_mm.utils.images import IMAGENET_MEAN, IMAGENET_STD
from lspt_mm.utils.text import shorten

#: Short names of weights that timm has.
ALIASES: Dict[str, str] = {
    'dinov2': f'{TIMM}vit_base_patch14_reg4_dinov2.lvd142m',
    'dinov3': f'{TIMM}vit_base_patch16_dinov3.lvd1689m',
    'siglip2': f'{TIMM}vit_base_patch16_siglip_224.v2_webli',
    'pe': f'{TIMM}vit_pe_core_base_patch16_224.fb',
}
#: For a file that is absent, or whose content loading will refuse.
_DEFAULT = dict(type='lspt_mm.PromptedViT', arch='base', patch_size=16)
#: A block of the plain ViT, by mmpretrain's names.
_PLAIN = {
    f'{part}.{kind}' for kind in ('weight', 'bias')
    for part in ('ln1', 'ln2', 'attn.qkv', 'attn.proj', 'ffn.layers.0.0', 'ffn.layers.1')
} | {'attn.gamma1.weight', 'ffn.gamma2.weight'}
#: Width, blocks and whether the MLP is gated, to timm's name of the size.
_DINOV3 = {
    (384, 12, False): 'small', (384, 12, True): 'small_plus', (768, 12, False): 'base',
    (1024, 24, False): 'large', (1280, 32, True): 'huge_plus', (4096, 40, True): '7b',
}


class ViT(NamedTuple):
    """A ViT of given weights.

    Attributes:
        backbone: Arguments of its backbone, ``type`` among them.
        mean: Of RGB values of 0 to 255, for the normalisation.
        std: Their deviation.
        arch: Name or measures, of :class:`~lspt_mm.models.PromptedViT`'s form for any ViT.
        patch_size: In pixels.
        out_type: What a classifier reads.
        source: The weights, ``timm:NAME``, a file or a URL.
    """

    backbone: Dict[str, Any]
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    arch: Union[str, Dict[str, int]]
    patch_size: int
    out_type: str
    source: str

    @property
    def measures(self) -> Dict[str, int]:
        """embed_dims, num_layers, num_heads, feedforward_channels."""
        if isinstance(self.arch, dict):
            return self.arch
        return VisionTransformer.arch_zoo[self.arch.lower()]


def vit_of(
    source: str,
    arch: Union[str, dict, None] = None,
    patch_size: Optional[int] = None,
    model: Optional[str] = None,
) -> ViT:
    """The ViT of weights: one of :data:`ALIASES`, ``timm:NAME``, a file, or a URL or an absent file
    (ViT-B/16).

    ``model`` is timm's name of the ViT in a file whose tensors do not identify it; ``arch`` and
    ``patch_size`` are for sizes that neither timm nor mmpretrain has a name for. Normalisation is
    that of ``config.json`` (timm) or ``preprocessor_config.json`` (transformers) beside the file.
    Without these, it is by timm's values with ``model``, by 0.5 and 0.5 for JAX archives, and by
    ImageNet's mean and deviation for other files (MAE, MoCo v3, DINO).

    Raises:
        InputError: If timm has no such ViT, or the file cannot be read or does not determine it.
    """
    given = {k: v for k, v in dict(arch=arch, patch_size=patch_size).items() if v is not None}
    source = ALIASES.get(source, source)
    try:
        _check(source, arch, patch_size, model)
    except ValueError as error:
        raise InputError(str(error)) from error
    vit, named, file = _DEFAULT, source if source.startswith(TIMM) else None, existing_file(source)
    if named:
        given, said_by = {**given, **({'model': model} if model else {})}, source
    elif model:
        named, said_by = TIMM + model.removeprefix(TIMM), f'model={model}'
    elif file:
        vit = file_vit(source)
        if 'model' in vit:
            named, said_by = TIMM + vit['model'], f'{source} is a {vit["model"]}, and'
    if named:
        for name, value in given.items():
            raise InputError(f'{name}={value!r}: {said_by} already determines it')
        found = timm_vit(named)
        mean, std = (None if model else _norm_beside(file)) or (found.mean, found.std)
        return found._replace(source=source, mean=mean, std=std)
    vit = {**vit, **given}
    if isinstance(vit['arch'], dict) and 'num_heads' not in vit['arch']:  # of a file
        measures = ','.join(f"'{name}':{value}" for name, value in vit['arch'].items())
        raise InputError(
            f'{source}: no tensor shows the number of heads, and mmpretrain names no ViT of this '
            f"size; give it as arch={{{measures},'num_heads':...}}, or timm's name of it as model="
        )
    half = (127.5,) * 3
    archive = str(file or source).endswith('.npz')
    norm = (half, half) if archive else (IMAGENET_MEAN, IMAGENET_STD)
    norm = _norm_beside(file) or norm
    out_type = 'cls_token' if vit.get('with_cls_token', True) else 'avg_patches'
    return ViT(vit, *norm, vit['arch'], vit['patch_size'], out_type, source)


def _norm_beside(file: Optional[Path]) -> Optional[Tuple[Tuple[float, ...], Tuple[float, ...]]]:
    """Mean and deviation in the file that hubs keep beside weights; None without one."""
    for name, keys in (('config.json', ('mean', 'std')),
                       ('preprocessor_config.json', ('image_mean', 'image_std'))):
        path = file.parent / name if file else None
        if path is None or not path.is_file():
            continue
        try:
            values = read_json(path)
        except InputError:  # of another program
            continue
        if isinstance(values, dict):
            values = values.get('pretrained_cfg', values)  # of timm
        if isinstance(values, dict) and all(_is_colour(values.get(key)) for key in keys):
            return tuple(_of_255(values[key]) for key in keys)
    return None


def _is_colour(values: Any) -> bool:
    """Whether this is a list of three numbers, 0 to 1."""
    return isinstance(values, list) and len(values) == 3 and all(
        isinstance(one, (int, float)) and 0 <= one <= 1 for one in values
    )


def name_of(source: str) -> str:
    """A name for folders: of ``timm:NAME`` its NAME, of a file or URL its stem.

    Hubs call all files alike; their folders have the names.
    """
    if source.startswith(TIMM):
        return source.removeprefix(TIMM)
    path = Path(source)
    return path.parent.name if path.stem in ('model', 'pytorch_model') else path.stem


def _check(source, arch, patch_size, model) -> None:
    """Raise ValueError for invalid values."""
    if not (source.startswith(TIMM) or is_url(source) or Path(source).suffix
            or existing_file(source)):
        raise ValueError(
            f'{source!r}: expected timm:NAME, a file, a URL, or one of {", ".join(ALIASES)}'
        )
    if arch is not None:
        check_arch(arch, VisionTransformer.arch_zoo)
    if patch_size is not None:
        check_int('patch_size', patch_size, 1)
    if model is not None and not isinstance(model, str):
        raise ValueError(f"model={model!r}: expected a name of timm's")


def timm_vit(source: str) -> ViT:
    """The ViT of ``timm:NAME``: as mmpretrain's class where that computes the same, else timm's.

    Raises:
        InputError: If timm has no such model, or it is one that cannot take prompts.
    """
    import timm
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer as TimmViT

    name = source.removeprefix(TIMM)
    try:
        with torch.device('meta'):  # no memory, no random numbers
            vit = timm.create_model(name, pretrained=False)
    except Exception as error:  # timm raises many types
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{source}: timm has no such model ({told}); timm.list_models('vit*', "
            'pretrained=True) lists the names'
        ) from error
    if not isinstance(vit, (TimmViT, Eva)):
        raise InputError(
            f'{source}: is a {type(vit).__name__}, expected a VisionTransformer or an Eva of timm'
        )
    if type(vit.patch_embed).__name__ != 'PatchEmbed':
        raise InputError(
            f'{source}: its patches come from another network '
            f'({type(vit.patch_embed).__name__}), expected a plain ViT'
        )
    cfg, patch, cls = vit.pretrained_cfg, vit.patch_embed.patch_size[0], vit.cls_token is not None
    block = vit.blocks[0]
    hidden = block.mlp.fc2.in_features if hasattr(block, 'mlp') else 4 * vit.embed_dim
    arch = dict(
        embed_dims=vit.embed_dim, num_layers=len(vit.blocks), feedforward_channels=hidden,
        num_heads=next(m.num_heads for m in block.modules() if hasattr(m, 'num_heads')),
    )
    if isinstance(vit, TimmViT) and vit.attn_pool is None and not differences(vit):
        backbone = dict(type='lspt_mm.PromptedViT', arch=arch, patch_size=patch, **_parts(
            vit.num_prefix_tokens - cls, cls, block.attn.qkv.bias is not None,
            hasattr(block.ls1, 'gamma'), not isinstance(vit.norm_pre, torch.nn.Identity),
        ))
        out_type = 'cls_token' if cls else 'avg_patches'
    else:
        backbone = dict(type='lspt_mm.TimmPromptedViT', model=name)
        own = vit.attn_pool is not None or not cls
        out_type = 'pooled' if own else 'cls_token'
    return ViT(backbone, _of_255(cfg['mean']), _of_255(cfg['std']), arch, patch, out_type, source)


def file_vit(source: str) -> Dict[str, Any]:
    """Arguments of a backbone for the ViT in a file, ``type`` among them.

    For DINOv3 and DINOv2's largest it has timm's ``model``; otherwise ``arch`` is a name of
    mmpretrain's, or a dict, which lacks ``num_heads`` if that is unknown.

    Raises:
        InputError: If the file cannot be read, holds no ViT, or does not determine which.
    """
    return dict(_measures(source, existing_file(source).stat().st_mtime_ns))


@functools.lru_cache(maxsize=4)  # a config asks several times
def _measures(source: str, changed: int) -> Dict[str, Any]:
    checkpoint = read_checkpoint(source)
    name = _timm_name(checkpoint, source)
    if name is not None:
        return dict(type='lspt_mm.TimmPromptedViT', model=name)
    mapped = vit_in(checkpoint, source)
    tensors = mapped.tensors
    kernel, ffn = (tensors.get(name) for name in (
        'patch_embed.projection.weight', 'layers.0.ffn.layers.0.0.weight'
    ))
    if kernel is None or kernel.ndim != 4:
        return _DEFAULT  # loading it reports what does not fit
    found: Dict[str, Any] = dict(type=_DEFAULT['type'], patch_size=kernel.shape[-1])
    strange = _not_plain(tensors, mapped.ignored)
    if strange:
        raise InputError(
            f'{source}: its tensors do not determine the model ({shorten(strange)}); if timm has '
            "it, name it: model=NAME, such as vit_base_patch16_clip_224 (timm.list_models())"
        )
    if ffn is None:
        raise InputError(f'{source}: block 0 is missing, or is not that of a plain ViT')
    measures = dict(
        embed_dims=len(kernel), num_layers=depth_of(tensors), feedforward_channels=len(ffn)
    )
    heads = mapped.num_heads
    zoo = VisionTransformer.arch_zoo
    names = [name for name, arch in zoo.items() if measures.items() <= arch.items()]
    found['arch'] = dict(measures, num_heads=heads) if heads else names[0] if names else measures
    registers = tensors['register_tokens'].shape[1] if 'register_tokens' in tensors else 0
    return {**found, **_parts(registers, *(name in tensors for name in (
        'cls_token', 'layers.0.attn.qkv.bias', 'layers.0.attn.gamma1.weight'
    )))}


def _not_plain(tensors, ignored) -> List[str]:
    """Names of tensors of a ViT that may compute something else than mmpretrain's plain one.

    CLIP has a norm in front and an eps of its own, the Perception Encoder a rotary embedding
    without tensors, SigLIP an attention pool and sometimes an approximate GELU.
    """
    first = {k.removeprefix('layers.0.') for k in tensors if k.startswith('layers.0.')}
    found = [f'layers.0.{name}' for name in sorted(first - _PLAIN)]
    if 'ln1.weight' in first and 'ln1.bias' not in first:
        found.append('layers.0.ln1 without a bias')
    found += [name for name in tensors if name.startswith('pre_norm.')]
    found += [] if 'pos_embed' in tensors else ['no pos_embed']
    return found + [key for key in ignored if 'attn_pool' in key]


def _timm_name(checkpoint: dict, source: str) -> Optional[str]:
    """timm's name of the model in a file, if its tensors identify it; None for others."""
    try:
        state = find_timm_names(checkpoint)
    except ValueError:  # the next reader of the file reports why
        return None
    gated = state.get('blocks.0.mlp.w12.weight')
    if gated is not None and 'pos_embed' in state and gated.shape == (8192, 1536):
        registers = 'register_tokens' in state or 'reg_token' in state
        return f'vit_giant_patch14{"_reg4" * registers}_dinov2'
    if 'cls_token' not in state:
        return None
    of_timm = 'reg_token' in state and 'blocks.0.attn.qkv.bias' not in state
    if not ('storage_tokens' in state or of_timm) or 'pos_embed' in state:
        return None
    width, depth = state['cls_token'].shape[-1], depth_of(state, 'blocks')
    gated = 'blocks.0.mlp.w1.weight' in state or 'blocks.0.mlp.fc1_g.weight' in state
    if (width, depth, gated) not in _DINOV3:
        raise InputError(
            f'{source}: a DINOv3 of width {width} and {depth} blocks, timm has none of this size'
        )
    biases = [v for k, v in state.items() if re.search(r'attn\.(qkv\.bias|q_bias|v_bias)$', k)]
    biased = any(bool(bias[:width].any() or bias[-width:].any()) for bias in biases)
    # Meta's names of files; these have another normalisation.
    tag = '.sat493m' * (width in (1024, 4096) and 'sat493m' in Path(source).name)
    return f'vit_{_DINOV3[width, depth, gated]}_patch16_dinov3{"_qkvb" * biased}{tag}'


def _parts(
    registers: int, cls_token: bool, qkv_bias: bool, layer_scale: bool, pre_norm: bool = False
) -> Dict[str, Any]:
    """Arguments that differ from the defaults of ``PromptedViT``."""
    return {
        **({'num_registers': registers} if registers else {}),
        **({} if cls_token else {'with_cls_token': False}),
        **({} if qkv_bias else {'qkv_bias': False}),
        # The file's values take its place.
        **({'layer_scale_init_value': 1e-5} if layer_scale else {}),
        **({'pre_norm': True} if pre_norm else {}),
    }


def _of_255(values) -> Tuple[float, ...]:
    return tuple(round(255 * value, 4) for value in values)
