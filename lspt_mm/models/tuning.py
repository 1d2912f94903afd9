"""Which parameters of a prompted ViT are trained."""

import re

from torch import nn

#: What can be trained, as the errors say it.
TUNES = "'prompts', 'nothing', 'bias', 'prompts+bias', 'partial-K' (K blocks) or 'full'"


def check_tune(tune: str, num_layers: int) -> None:
    """Raise ValueError unless ``tune`` is one of :data:`TUNES` with 1 <= K <= L."""
    if isinstance(tune, str):
        if tune in ('prompts', 'nothing', 'bias', 'prompts+bias', 'full'):
            return
        match = re.fullmatch(r'partial-(\d+)', tune)
        if match and 1 <= int(match[1]) <= num_layers:
            return
    raise ValueError(f'tune={tune!r}: expected {TUNES}; this ViT has {num_layers} blocks')


def apply_tune(vit: nn.Module, tune: str) -> None:
    """Set ``requires_grad`` of a :class:`PromptedViT`'s parameters.

    - ``prompts``: the prompter alone (nothing, if there is none);
    - ``nothing``: no parameter at all (linear probe, frozen backbone);
    - ``bias``: the ViT's biases (BitFit), without the prompter; ``prompts+bias``: both;
    - ``partial-K``: the last K blocks and the final norms;
    - ``full``: the ViT and the prompter.

    MAE's position embedding is a fixed one and stays so except with ``full``.
    """
    check_tune(tune, vit.num_layers)
    with_prompter = tune in ('prompts', 'prompts+bias', 'full')
    last_blocks = ()
    if tune.startswith('partial-'):
        first = vit.num_layers - int(tune.split('-')[1])
        last_blocks = tuple(f'layers.{i}.' for i in range(first, vit.num_layers)) + ('ln1.', 'ln2.')
    for name, parameter in vit.named_parameters():
        if name.startswith('prompter.'):
            parameter.requires_grad_(with_prompter)
        else:
            parameter.requires_grad_(
                tune == 'full'
                or ('bias' in tune and name.endswith('.bias'))
                or name.startswith(last_blocks or ('\0',))
            )


def train_tuned_only(module: nn.Module, parent_tuned: bool = False) -> None:
    """Put modules with a trainable parameter in or below them into train mode, others into eval.

    A module without any parameter (dropout, drop path) goes with its parent.
    """
    parameters = list(module.parameters())
    module.training = any(p.requires_grad for p in parameters) if parameters else parent_tuned
    for child in module.children():
        train_tuned_only(child, module.training)
