"""Detects the origin of a ViT's state dict and converts its keys to mmpretrain's names."""

import re
from collections import Counter
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from lspt_mm.checkpoints import huggingface, jax_vit
from lspt_mm.utils.text import shorten

#: Keys under which state dicts are stored, possibly nested (of DINO, the teacher is used).
_WRAPPERS = (
    'state_dict', 'model', 'teacher', 'module', 'net', 'model_state_dict', 'model_ema',
    'state_dict_ema', 'ema_state_dict', 'ema', 'params', 'target_encoder', 'backbone', 'encoder',
)

#: Known prefixes of the ViT to use: of the two encoders of MoCo v3, and of mmpretrain's, the one
#: that is not the momentum encoder. These take precedence over any other prefix.
_PREFIXES = (
    'module.base_encoder.', 'base_encoder.', 'module.backbone.', 'module.', 'backbone.',
    'encoder.', '',
)

#: timm's names (MAE, MoCo v3, DeiT, DINO; DINOv2 official: w12, register_tokens) and mmpretrain's;
#: ``#`` is a block's number. The first pair that matches is used, in either direction.
_NAMES = (
    ('patch_embed.proj.', 'patch_embed.projection.'),
    ('norm_pre.', 'pre_norm.'),
    ('norm.', 'ln1.'),
    ('fc_norm.', 'ln2.'),
    ('reg_token', 'register_tokens'),
    ('blocks.#.norm1.', 'layers.#.ln1.'),
    ('blocks.#.norm2.', 'layers.#.ln2.'),
    ('blocks.#.mlp.fc1.', 'layers.#.ffn.layers.0.0.'),
    ('blocks.#.mlp.fc2.', 'layers.#.ffn.layers.1.'),
    ('blocks.#.ls1.gamma', 'layers.#.attn.gamma1.weight'),
    ('blocks.#.ls2.gamma', 'layers.#.ffn.gamma2.weight'),
    ('blocks.#.gamma_1', 'layers.#.attn.gamma1.weight'),
    ('blocks.#.gamma_2', 'layers.#.ffn.gamma2.weight'),
    ('blocks.#.mlp.', 'layers.#.ffn.'),
    ('blocks.#.', 'layers.#.'),
)


def _patterns(pairs) -> Tuple[Tuple[str, str], ...]:
    """Convert pairs of old and new names to a table for :func:`huggingface.renamed`."""
    return tuple(
        (f'^{re.escape(old)}{"" if old.endswith(".") else "$"}'.replace(r'\#', r'(\d+)'),
         new.replace('#', r'\1'))
        for old, new in pairs
    )


_TIMM_TO_MMPRETRAIN = _patterns(_NAMES)
_MMPRETRAIN_TO_TIMM = _patterns((new, old) for old, new in _NAMES)
#: mmseg's ViT uses PyTorch's attention.
_MMSEG_TO_MMPRETRAIN = (
    (r'^layers\.(\d+)\.attn\.attn\.in_proj_(weight|bias)$', r'layers.\1.attn.qkv.\2'),
    (r'^layers\.(\d+)\.attn\.attn\.out_proj\.', r'layers.\1.attn.proj.'),
)
#: A block inside a chunk, as DINOv2 trains them.
_CHUNKED = re.compile(r'^blocks\.(\d+)\.(\d+)\.')
_SEPARATE_BIAS = re.compile(r'^(.*attn\.)q_bias$')

#: Unsupported models: pattern of a key, what the model is, what to do.
_OTHERS = tuple((re.compile(pattern), what, advice) for pattern, what, advice in (
    (r'lora_|(^|\.)lora\.|\.base_layer\.|\.linear_[ab]_[qkv]\.',
     'LoRA that is not merged into its weights',
     'merge it first (peft: merge_and_unload(); here: backbone.merge_lora())'),
    (r'(^|\.)(layers|stages)\.\d+\.(blocks\.\d+|downsample|downsample_layers)\.',
     'a model of stages (Swin, ConvNeXt)', 'expected a plain ViT'),
    (r'(^|\.)layer1\.0\.conv1\.', 'a ResNet', 'expected a ViT'),
    (r'relative_position_bias|rel_pos_bias|rel_pos_[hw]$|(^|\.)rel_pos\.',
     'a ViT of relative positions (BEiT, SAM)', 'prompts have no place in its attention'),
    (r'(^|\.)vision_model\.embeddings\.patch_embedding\.',
     'a CLIP or SigLIP in the names of transformers', "take timm's file of it, or timm:NAME"),
))

#: The patch embedding, which identifies a ViT.
_PATCHES = ('patch_embed.proj.weight', 'patch_embed.projection.weight')

_VIT_KEYS = re.compile(
    r'^((cls_token|dist_token|register_tokens|pos_embed)$|(patch_embed|layers|ln1|ln2|pre_norm)\.'
    # From ViTs that compute another function: rejected, not ignored.
    r'|rope|rel_pos)'
)

#: Tensors ignored on purpose; the first pattern that matches a key names its kind.
_SET_ASIDE = (
    ('momentum encoder', r'momentum'),
    ('prompts', r'(^|\.)prompter\.|(^|\.)base_record$|prompt_embeddings'),
    ('projector and predictor', r'base_encoder\.head\.|predictor|projector|^neck\.(fc|bn)\d'),
    ('decoder', r'(^|\.)decoder|mask_token|^neck\.'),
    ('head', r'(^|\.)(head|head_dist|fc|pre_logits|dino_head|ibot_head|attn_pool)(\.|$)|_head\.'
             r'|(^|\.)(pooler|classifier)\.|^head/|^pre_logits/|MAPHead'),
    ('final norm, which the config does without', r'^(ln1|ln2|norm|fc_norm)\.'),
)


#: Rows and columns of patches.
Grid = Tuple[int, int]


class Mapped(NamedTuple):
    """A ViT under mmpretrain's names.

    ``tensors``: with a class token, ``pos_embed`` always has its row. Further leading tokens
    (registers, a distillation token) are ``register_tokens`` (1, R, D), with their position
    embeddings added. ``ignored``: keys not used. ``family``: origin of the file. ``num_heads``,
    ``grid`` (rows, columns): None if the file does not determine them. ``note``: further text for
    the log.
    """

    tensors: Dict[str, Tensor]
    ignored: List[str]
    family: str
    num_heads: Optional[int] = None
    grid: Optional[Grid] = None
    note: str = ''


def to_mmpretrain(
    checkpoint: dict, grid: Optional[Grid] = None, fallback_grid: Optional[Grid] = None
) -> Mapped:
    """Find a ViT in a checkpoint and rename its tensors as mmpretrain's ``VisionTransformer``.

    Supported: MAE, MoCo v3, DINO, DINOv2, DeiT (official files), timm and its derivatives,
    ``transformers``, mmpretrain and mmseg with and without ``backbone.``, and the JAX archives of
    supervised ViTs. Blocks may be in chunks, and biases of queries and values separate. Heads,
    decoders, projectors and momentum encoders are ignored.

    Args:
        checkpoint: What :func:`read_checkpoint` returns.
        grid: Rows and columns of the position embedding's patches, if not a square.
        fallback_grid: Grid to use if the number of patches is not a square.

    Raises:
        ValueError: If the checkpoint holds no ViT, several, or another kind of model.
    """
    state = _checked(unwrap(checkpoint))
    if jax_vit.is_jax(state):
        tensors, ignored, num_heads = jax_vit.to_mmpretrain(state)
        tensors = join_extra_tokens(tensors, grid, fallback_grid)
        return Mapped(tensors, ignored, 'JAX', num_heads, _known_grid(tensors, grid, fallback_grid))
    set_aside: List[str] = []
    if huggingface.is_huggingface(state):
        state, set_aside = huggingface.to_timm(state)
    prefix = _find_prefix(state)
    inner = _in_order(k[len(prefix) :] for k in state if k.startswith(prefix))
    if 'storage_tokens' in inner.values():
        raise ValueError(
            'a DINOv3, whose positions are rotary: expected a backbone of '
            "type='lspt_mm.TimmPromptedViT', model='vit_small_patch16_dinov3' or a larger one"
        )
    timm_names = any(k.startswith('blocks.') for k in inner.values())
    table = _TIMM_TO_MMPRETRAIN if timm_names else _MMSEG_TO_MMPRETRAIN
    tensors, used = {}, set()
    for own, name in inner.items():
        new, value = huggingface.renamed(name, table) or name, state[prefix + own]
        if _VIT_KEYS.match(new) and isinstance(value, Tensor):
            if new in tensors:
                raise ValueError(f'{prefix + own} is in it under another name as well')
            tensors[new] = value
            used.add(prefix + own)
    join_biases(tensors)
    family = _family(state, prefix, timm_names)
    num_heads = None
    if 'MoCo v3' in family or (timm_names and _is_moco_v3_probe(checkpoint)):
        # Its ViT-S has 12 heads, others have 6: same shapes, another function.
        num_heads = {384: 12, 768: 12}.get(tensors['patch_embed.projection.weight'].size(0))
        family = family if 'MoCo v3' in family else 'MoCo v3, linear probe'
    if timm_names or 'dist_token' in tensors:
        # mmpretrain's own files, including ours, are in that form already.
        tensors = join_extra_tokens(tensors, grid, fallback_grid)
    grid = _known_grid(tensors, grid, fallback_grid, own=not timm_names)
    ignored = [*(k for k in state if k not in used), *set_aside]
    return Mapped(tensors, ignored, family, num_heads, grid)


def find_timm_names(checkpoint: dict) -> Dict[str, Tensor]:
    """Tensors of a ViT as timm's loaders expect them, without wrappers and prefixes.

    Raises:
        ValueError: If the checkpoint holds several ViTs, or another kind of model.
    """
    state = _checked(unwrap(checkpoint))
    if huggingface.is_huggingface(state):
        return huggingface.to_timm(state)[0]
    # timm recognises others (CLIP, the Perception Encoder) by their names.
    known = any(str(key).endswith(_PATCHES) for key in state)
    prefix = _find_prefix(state) if known else ''
    inner = _in_order(k[len(prefix) :] for k in state if k.startswith(prefix))
    found = {name: state[prefix + own] for own, name in inner.items()
             if isinstance(state[prefix + own], Tensor)}
    if 'patch_embed.projection.weight' in found:
        for table in (_MMSEG_TO_MMPRETRAIN, _MMPRETRAIN_TO_TIMM):
            renamed = {huggingface.renamed(k, table) or k: v for k, v in found.items()}
            if len(renamed) < len(found):
                raise ValueError('it has tensors under two names')
            found = renamed
    return found


def _checked(state: dict) -> dict:
    """Convert keys to strings; raise ValueError for unsupported models."""
    state = {str(key): value for key, value in state.items()}
    for pattern, what, advice in _OTHERS:
        key = next((key for key in state if pattern.search(key)), None)
        if key is not None:
            raise ValueError(f'{what}: it has {key}; {advice}')
    return state


def _in_order(names: Iterable[str]) -> Dict[str, str]:
    """Map names to names without chunks, whose blocks are numbered from 0.

    The numbers of blocks may continue from chunk to chunk (DINOv2) or restart in each.
    """
    names = list(names)
    found = {name: match for name in names if (match := _CHUNKED.match(name))}
    pairs = sorted({(int(match[1]), int(match[2])) for match in found.values()})
    number = {pair: i for i, pair in enumerate(pairs)}
    on = all(block == i for i, (_, block) in enumerate(pairs))
    sizes = Counter(chunk for chunk, _ in pairs)
    anew = pairs == [(chunk, i) for chunk in range(len(sizes)) for i in range(sizes[chunk])]
    if not (on or anew):
        raise ValueError(f'a block is missing among its chunks: there are {shorten(pairs, 99)}')
    return {name: f'blocks.{number[int(m[1]), int(m[2])]}.{name[m.end() :]}'
            if (m := found.get(name)) else name for name in names}


def join_biases(tensors: Dict[str, Tensor]) -> None:
    """Join separate biases of queries and values (BEiT, EVA); that of keys is 0 unless given."""
    for name in [name for name in tensors if _SEPARATE_BIAS.match(name)]:
        attn = name.removesuffix('q_bias')
        if f'{attn}v_bias' not in tensors or f'{attn}qkv.bias' in tensors:
            what = 'beside qkv.bias' if f'{attn}qkv.bias' in tensors else 'without v_bias'
            raise ValueError(f'{name} {what}: the file is damaged, or of another model')
        q, v = tensors.pop(name), tensors.pop(f'{attn}v_bias')
        k = tensors.pop(f'{attn}k_bias', torch.zeros_like(q))
        tensors[f'{attn}qkv.bias'] = torch.cat((q, k, v))


def _known_grid(tensors: Dict[str, Tensor], grid, fallback_grid, own=False) -> Optional[Grid]:
    """Rows and columns of a joined position embedding's patches; None if unknown.

    Files of timm and its derivatives have square grids: 2x8 patches are as many as 4x4, but in
    other places. mmpretrain's files (``own``) may come from the model of the ``fallback_grid``.
    """
    pos = tensors.get('pos_embed')
    if pos is None or pos.ndim != 3:
        return grid
    patches = pos.size(1) - ('cls_token' in tensors)
    if grid:
        if min(grid) < 1 or grid[0] * grid[1] != patches:
            raise ValueError(
                f'grid={tuple(grid)}: its position embedding is of {patches} patches, '
                f'{grid[0]}x{grid[1]} are {grid[0] * grid[1]}'
            )
        return tuple(grid)
    fits = fallback_grid and fallback_grid[0] * fallback_grid[1] == patches
    as_fallback = tuple(fallback_grid) if fits else None
    if own and (as_fallback or fallback_grid is None):
        return as_fallback
    return (round(patches**0.5),) * 2 if is_square(patches) else as_fallback


def unwrap(checkpoint: dict) -> dict:
    """The state dict in a checkpoint, inside any number of wrappers, or the checkpoint itself."""
    for key in _WRAPPERS:
        if isinstance(checkpoint.get(key), dict):
            return unwrap(checkpoint[key])
    return checkpoint


def group_ignored_keys(keys: List[str]) -> Dict[str, List[str]]:
    """Group ignored keys by what they belong to; ``'unknown'`` if no pattern matches."""
    kinds: Dict[str, List[str]] = {}
    for key in keys:
        kind = next((k for k, pattern in _SET_ASIDE if re.search(pattern, str(key))), 'unknown')
        kinds.setdefault(kind, []).append(key)
    return kinds


def join_extra_tokens(
    tensors: Dict[str, Tensor], grid=None, fallback_grid=None
) -> Dict[str, Tensor]:
    """Convert leading tokens and their position embeddings to the form of :class:`Mapped`.

    A distillation token becomes a register token: without a reader of its output it is the same
    function of the image. Position embeddings of such tokens are constants and are added to them.
    A class token without a position embedding (timm's ``no_embed_class``) gets a row of zeros.
    """
    tensors = dict(tensors)
    more = [tensors.pop(k) for k in ('dist_token', 'register_tokens') if k in tensors]
    pos, cls = tensors.get('pos_embed'), 'cls_token' in tensors
    if any(t.ndim != 3 for t in [*more, *([] if pos is None else [pos])]):
        return {**tensors, **({'register_tokens': more[0]} if more else {})}
    registers = sum(t.size(1) for t in more)
    if pos is not None:
        rows = _rows_before_patches(pos.size(1), int(cls), registers, grid, fallback_grid)
        extra, patches = pos[:, :rows], pos[:, rows:]
        if cls and rows == 0:
            extra = pos.new_zeros(1, 1, pos.size(2))
        if registers and rows > int(cls):
            joint = extra[:, int(cls) :].split([t.size(1) for t in more], dim=1)
            more = [t + p for t, p in zip(more, joint, strict=True)]
        tensors['pos_embed'] = torch.cat((extra[:, : int(cls)], patches), dim=1)
    if more:
        tensors['register_tokens'] = torch.cat(more, dim=1)
    return tensors


def _rows_before_patches(length: int, cls: int, registers: int, grid, fallback_grid) -> int:
    """Number of rows of a position embedding that precede those of the patches."""
    candidates = sorted({cls + registers, cls, 0}, reverse=True)
    for rows in candidates:
        patches = length - rows
        if grid:
            fits = patches == grid[0] * grid[1]
        else:
            # 6x8 patches and a class token are 49 too: if the model's grid has 48, it takes
            # precedence over a square without a class token.
            h, w = fallback_grid or (0, 0)
            fits = is_square(patches) or patches == h * w > 0
        if fits:
            return rows
    return cls  # unknown grid: the check of shapes reports it


def is_square(number: int) -> bool:
    """Whether ``number`` is the square of an integer of at least 1."""
    return number > 0 and int(number**0.5 + 0.5) ** 2 == number


def _find_prefix(state: dict) -> str:
    found = {k[: -len(e)] for k in state for e in _PATCHES if isinstance(k, str) and k.endswith(e)}
    known = [p for p in _PREFIXES if p in found]
    if len(known) == 1:
        return known[0]
    if len(found) == 1:
        return found.pop()
    if found:
        raise ValueError(
            f'several Vision Transformers in it, below {", ".join(sorted(found))}; keep one'
        )
    shown = ', '.join(map(str, list(state)[:5])) or 'none at all'
    raise ValueError(f'no Vision Transformer in it; its first keys: {shown}')


def _family(state: dict, prefix: str, timm_names: bool) -> str:
    if 'base_encoder' in prefix:
        return 'MoCo v3'
    if not timm_names:
        moco = any(k.startswith('momentum_encoder.') for k in state)
        return 'mmpretrain, MoCo v3' if moco else 'mmpretrain'
    if f'{prefix}decoder_pos_embed' in state:
        return 'MAE with decoder'
    if f'{prefix}dist_token' in state:
        return 'DeiT, distilled'
    if f'{prefix}mask_token' in state and f'{prefix}blocks.0.ls1.gamma' in state:
        return 'DINOv2'
    return 'timm or MAE'


def _is_moco_v3_probe(checkpoint: dict) -> bool:
    """Whether it is a linear-probe file of MoCo v3, by its further entries (main_lincls.py)."""
    return checkpoint.get('arch') in ('vit_small', 'vit_base') and 'best_acc1' in checkpoint
