"""Keys and shapes of the files people have, family by family, at any size.

Written down from the official repositories' code at the commits named below; a file of a family
is made of random tensors of these shapes.
"""

from typing import Dict, NamedTuple, Tuple

Shapes = Dict[str, Tuple[int, ...]]


class Size(NamedTuple):
    """A ViT: width, blocks, side of a patch, patches, width of the MLP, of the decoder, classes."""

    width: int = 16
    depth: int = 4
    patch: int = 8
    patches: int = 16
    mlp: int = 32
    decoder: int = 8
    decoder_depth: int = 2
    decoder_mlp: int = 32
    hidden: int = 24
    out: int = 6
    classes: int = 5


def linear(name, rows, columns) -> Shapes:
    return {f'{name}.weight': (rows, columns), f'{name}.bias': (rows,)}


def norm(name, width) -> Shapes:
    return {f'{name}.weight': (width,), f'{name}.bias': (width,)}


def below(prefix, shapes: Shapes) -> Shapes:
    return {prefix + name: shape for name, shape in shapes.items()}


def timm_block(name, width, mlp) -> Shapes:
    return {
        **norm(f'{name}.norm1', width),
        **linear(f'{name}.attn.qkv', 3 * width, width),
        **linear(f'{name}.attn.proj', width, width),
        **norm(f'{name}.norm2', width),
        **linear(f'{name}.mlp.fc1', mlp, width),
        **linear(f'{name}.mlp.fc2', width, mlp),
    }


def mmpretrain_block(name, width, mlp) -> Shapes:
    return {
        **norm(f'{name}.ln1', width),
        **linear(f'{name}.attn.qkv', 3 * width, width),
        **linear(f'{name}.attn.proj', width, width),
        **norm(f'{name}.ln2', width),
        **linear(f'{name}.ffn.layers.0.0', mlp, width),
        **linear(f'{name}.ffn.layers.1', width, mlp),
    }


def timm_vit(s: Size) -> Shapes:
    shapes: Shapes = {
        'cls_token': (1, 1, s.width),
        'pos_embed': (1, s.patches + 1, s.width),
        'patch_embed.proj.weight': (s.width, 3, s.patch, s.patch),
        'patch_embed.proj.bias': (s.width,),
    }
    for i in range(s.depth):
        shapes.update(timm_block(f'blocks.{i}', s.width, s.mlp))
    return {**shapes, **norm('norm', s.width)}


def mmpretrain_vit(s: Size) -> Shapes:
    shapes: Shapes = {
        'cls_token': (1, 1, s.width),
        'pos_embed': (1, s.patches + 1, s.width),
        'patch_embed.projection.weight': (s.width, 3, s.patch, s.patch),
        'patch_embed.projection.bias': (s.width,),
    }
    for i in range(s.depth):
        shapes.update(mmpretrain_block(f'layers.{i}', s.width, s.mlp))
    return {**shapes, **norm('ln1', s.width)}


# facebookresearch/mae @ efb2a80: {'model': ...}


def mae_encoder(s: Size) -> Shapes:
    return timm_vit(s)


def mae_with_decoder(s: Size) -> Shapes:
    """The visualisation and training files (models_mae.py)."""
    shapes = {
        **timm_vit(s),
        **linear('decoder_embed', s.decoder, s.width),
        'mask_token': (1, 1, s.decoder),
        'decoder_pos_embed': (1, s.patches + 1, s.decoder),
        **norm('decoder_norm', s.decoder),
        **linear('decoder_pred', 3 * s.patch**2, s.decoder),
    }
    for i in range(s.decoder_depth):
        shapes.update(timm_block(f'decoder_blocks.{i}', s.decoder, s.decoder_mlp))
    return shapes


def mae_linear_probe(s: Size) -> Shapes:
    return {**timm_vit(s), **linear('head', s.classes, s.width)}


# facebookresearch/moco-v3 @ c349e6e: {'state_dict': ..., 'arch': ..., 'optimizer': ...}


def _moco_mlp(name, sizes) -> Shapes:
    """Linear layers without bias, BatchNorm and ReLU between, BatchNorm without weights last."""
    shapes: Shapes = {}
    number = 0
    for i, (columns, rows) in enumerate(zip(sizes, sizes[1:], strict=False)):
        shapes[f'{name}.{number}.weight'] = (rows, columns)
        last = i == len(sizes) - 2
        if not last:
            shapes.update(norm(f'{name}.{number + 1}', rows))
        for buffer in ('running_mean', 'running_var'):
            shapes[f'{name}.{number + 1}.{buffer}'] = (rows,)
        shapes[f'{name}.{number + 1}.num_batches_tracked'] = ()
        number += 3
    return shapes


def moco_v3(s: Size) -> Shapes:
    shapes: Shapes = {}
    for encoder in ('base_encoder', 'momentum_encoder'):
        encoder_shapes = {**timm_vit(s), **_moco_mlp('head', (s.width, s.hidden, s.hidden, s.out))}
        shapes.update(below(f'module.{encoder}.', encoder_shapes))
    return {**shapes, **_moco_mlp('module.predictor', (s.out, s.hidden, s.out))}


def moco_v3_linear_probe(s: Size) -> Shapes:
    return below('module.', {**timm_vit(s), **linear('head', s.classes, s.width)})


# timm 1.0.31: the state dict itself


def timm_classifier(s: Size) -> Shapes:
    return {**timm_vit(s), **linear('head', s.classes, s.width)}


# mmpretrain 1.2.0: {'state_dict': ..., 'meta': ...}


def mmpretrain_plain(s: Size) -> Shapes:
    return mmpretrain_vit(s)


def mmpretrain_classifier(s: Size) -> Shapes:
    return {
        **below('backbone.', mmpretrain_vit(s)),
        **linear('head.layers.head', s.classes, s.width),
    }


def mmpretrain_mae(s: Size) -> Shapes:
    shapes = {
        **below('backbone.', mmpretrain_vit(s)),
        'neck.mask_token': (1, 1, s.decoder),
        'neck.decoder_pos_embed': (1, s.patches + 1, s.decoder),
        **linear('neck.decoder_embed', s.decoder, s.width),
        **norm('neck.ln1', s.decoder),
        **linear('neck.decoder_pred', 3 * s.patch**2, s.decoder),
    }
    for i in range(s.decoder_depth):
        shapes.update(mmpretrain_block(f'neck.decoder_blocks.{i}', s.decoder, s.decoder_mlp))
    return shapes


def mmpretrain_moco_v3(s: Size) -> Shapes:
    def neck(name, sizes) -> Shapes:
        shapes: Shapes = {}
        for i, (columns, rows) in enumerate(zip(sizes, sizes[1:], strict=False)):
            shapes[f'{name}.fc{i}.weight'] = (rows, columns)
            if i < len(sizes) - 2:
                shapes.update(norm(f'{name}.bn{i}', rows))
            for buffer in ('running_mean', 'running_var'):
                shapes[f'{name}.bn{i}.{buffer}'] = (rows,)
            shapes[f'{name}.bn{i}.num_batches_tracked'] = ()
        return shapes

    projector = (s.width, s.hidden, s.hidden, s.out)
    return {
        **below('backbone.', mmpretrain_vit(s)),
        **neck('neck', projector),
        **neck('head.predictor', (s.out, s.hidden, s.out)),
        'momentum_encoder.steps': (),
        **below('momentum_encoder.module.0.', mmpretrain_vit(s)),
        **neck('momentum_encoder.module.1', projector),
    }
