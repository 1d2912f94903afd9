"""Describes a prompted ViT as plain data, for checkpoints and caches."""

from lspt_mm.checkpoints.backbone import ADDED, BackboneDescription
from lspt_mm.models.features import POOLED


def vit_size(vit) -> dict:
    """Size of a ViT as arguments of a prompter."""
    return dict(
        embed_dims=vit.embed_dims, num_layers=vit.num_layers, patch_size=vit.patch_size[0],
        num_heads=vit.num_heads, grid=tuple(vit.patch_resolution),
    )


def settings(vit) -> list:
    """What the plain ViT does with its tensors, as JSON: its sizes and its layers' settings.

    Two ViTs of equal tensors may differ in them: heads, activation, the epsilon of norms.
    """
    layers = {
        name: repr(child)
        for name, child in vit.named_children()
        if not f'{name}.'.startswith(ADDED)
    }
    return [type(vit).__name__, describe(vit).arch, vit.interpolate_mode, layers]


def describe(vit) -> BackboneDescription:
    """Describe a ``PromptedBackbone`` for the checkpoint code."""
    prompter = vit.prompter
    return BackboneDescription(
        tensors={k: v for k, v in vit.state_dict().items() if not k.startswith(ADDED)},
        trained=frozenset(name for name, p in vit.named_parameters() if p.requires_grad),
        arch={
            'embed_dims': vit.embed_dims,
            'num_layers': vit.num_layers,
            'num_heads': vit.num_heads,
            'patch_size': list(vit.patch_size),
            **vit.kind,
        },
        output={'out_type': vit.out_type, 'final_norm': vit.final_norm},
        pools_before_norm=vit.out_type in POOLED,
        grid=tuple(vit.patch_resolution),
        num_extra_tokens=vit.num_extra_tokens,
        interpolate_mode=vit.interpolate_mode,
        prompter=vit.prompter_cfg,
        defaults={} if prompter is None else prompter.argument_defaults(),
        training_only=() if prompter is None else prompter.TRAINING_ONLY,
        tune=vit.tune,
        pretrained=vit.pretrained,
        weights=vit.weights,
        translate=vit.translate,
    )
