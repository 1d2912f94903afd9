"""Which parameters of a prompted ViT are trained."""

import re
from typing import Optional, Tuple

from torch import nn

#: Biases of a block that 'bias-NAMES' can choose, in mmpretrain's and timm's names. Where queries,
#: keys and values have one packed bias, each of the three names is all of it.
BIASES = {
    'q': r'attn\.(qkv\.bias|q_proj\.bias|q_bias)',
    'k': r'attn\.(qkv\.bias|k_proj\.bias)',
    'v': r'attn\.(qkv\.bias|v_proj\.bias|v_bias)',
    'proj': r'attn\.proj\.bias',
    'fc1': r'(ffn\.layers\.0\.0|mlp\.fc1|mlp\.fc1_[gx])\.bias',
    'fc2': r'(ffn\.layers\.1|mlp\.fc2)\.bias',
    'norm1': r'(ln1|norm1)\.bias',
    'norm2': r'(ln2|norm2)\.bias',
}
#: Values of ``tune``, as listed in errors.
TUNES = (
    "'prompts', 'nothing', 'bias', 'lora-R' (of rank R), 'prompts+bias', 'prompts+lora-R', "
    "'partial-K' (K blocks) or 'full'; for some of the blocks' biases 'bias-NAME-NAME' with names "
    f'of {", ".join(BIASES)}'
)


def check_tune(tune: str, num_layers: int) -> None:
    """Raise ValueError unless ``tune`` is one of :data:`TUNES` with 1 <= K <= L."""
    if isinstance(tune, str):
        if tune in ('prompts', 'nothing', 'bias', 'prompts+bias', 'full'):
            return
        match = re.fullmatch(r'partial-(\d+)', tune)
        if bias_names(tune):
            return
        if (match and 1 <= int(match[1]) <= num_layers) or lora_rank(tune):
            return
    raise ValueError(f'tune={tune!r}: expected {TUNES}; this ViT has {num_layers} blocks')


def lora_rank(tune: str) -> int:
    """R of 'lora-R' and 'prompts+lora-R'; 0 for other values."""
    match = re.fullmatch(r'(?:prompts\+)?lora-(\d+)', tune)
    return int(match[1]) if match else 0


def bias_names(tune: str) -> Optional[Tuple[str, ...]]:
    """Names in 'bias-NAME-NAME' and 'prompts+bias-NAME-NAME'; None for other values."""
    match = re.fullmatch(r'(?:prompts\+)?bias((?:-[a-z0-9]+)+)', tune)
    names = tuple(match[1][1:].split('-')) if match else ()
    return names if names and all(name in BIASES for name in names) else None


def apply_tune(vit: nn.Module, tune: str) -> None:
    """Set ``requires_grad`` of a prompted ViT's parameters.

    - ``prompts``: only the prompter (nothing, if there is none);
    - ``nothing``: no parameter at all (linear probe, frozen backbone);
    - ``bias``: the ViT's biases (BitFit), without the prompter; ``prompts+bias``: both;
    - ``bias-NAME-NAME``: some of the blocks' biases, by the names in ``BIASES``, as far as the
      ViT has them;
    - ``lora-R``: LoRA, without the prompter; ``prompts+lora-R``: both;
    - ``partial-K``: the last K blocks and the final norms;
    - ``full``: the ViT and the prompter.

    MAE's position embedding is fixed and is trained only with ``full``. What outputs do not depend
    on (``vit.unread``) is never trained.
    """
    check_tune(tune, vit.num_layers)
    some = bias_names(tune)
    own = {name for name, _ in vit.named_parameters() if 1 <= vit.depth_of(name) <= vit.num_layers}
    if some is not None and not any(_is_bias(name, some) for name in own):
        raise ValueError(f'tune={tune!r}: the blocks of this ViT have none of these biases')
    with_prompter = tune.startswith('prompts') or tune == 'full'
    first = vit.num_layers + 2  # from this depth on, all is trained
    if tune.startswith('partial-'):
        first = vit.num_layers + 1 - int(tune.split('-')[1])
    for name, parameter in vit.named_parameters():
        if name.startswith('prompter.'):
            parameter.requires_grad_(with_prompter)
        elif name.startswith('lora.'):
            parameter.requires_grad_(True)
        elif name.startswith(vit.unread):
            parameter.requires_grad_(False)
        else:
            of_bias = 'bias' in tune and name.endswith('bias')  # q_bias as well
            if some is not None:
                of_bias = name in own and _is_bias(name, some)
            parameter.requires_grad_(tune == 'full' or of_bias or vit.depth_of(name) >= first)


def _is_bias(name: str, kinds: Tuple[str, ...]) -> bool:
    return any(re.search(rf'\.{BIASES[kind]}$', name) for kind in kinds)


def train_tuned_only(module: nn.Module, parent_tuned: bool = False) -> None:
    """Set train mode for modules with a trainable parameter in or below them, eval for others.

    A module without any parameter (dropout, drop path) follows its parent.
    """
    parameters = list(module.parameters())
    module.training = any(p.requires_grad for p in parameters) if parameters else parent_tuned
    for child in module.children():
        train_tuned_only(child, module.training)
