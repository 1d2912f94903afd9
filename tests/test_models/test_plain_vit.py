"""``prompter=None`` is the plain ViT: mmpretrain's bit by bit, timm's to float precision."""

import pytest
import torch
from mmpretrain.models.backbones import VisionTransformer
from timm.models.vision_transformer import VisionTransformer as TimmViT
from vit_oracles import ARCH, IMG, PATCH, build, images, randomize

VITS = {
    'default': {},
    'no-cls': {'with_cls_token': False},
    'no-final-norm': {'final_norm': False},
    'layer-scale': {'layer_scale_init_value': 0.1},
    'no-qkv-bias': {'qkv_bias': False},
    'pre-norm': {'pre_norm': True},
    'not-square': {'img_size': (16, 32)},
    'bilinear': {'interpolate_mode': 'bilinear'},
    'no-cls-no-final-norm': {'with_cls_token': False, 'final_norm': False},
}


def mmpretrain_vit(dtype, **kwargs):
    kwargs = dict({'arch': ARCH, 'img_size': IMG, 'patch_size': PATCH}, **kwargs)
    return VisionTransformer(**kwargs).to(dtype)


@pytest.mark.parametrize(
    ('name', 'out_type'),
    [
        (name, out_type)
        for name, kwargs in VITS.items()
        for out_type in sorted(VisionTransformer.OUT_TYPES)
        if kwargs.get('with_cls_token', True) or out_type != 'cls_token'
    ],
)
def test_equals_mmpretrain(name, out_type):
    kwargs = dict(VITS[name], out_type=out_type)
    indices = [0, 1, -1]
    ours = build(out_indices=list(indices), dtype=torch.float32, **kwargs)
    theirs = mmpretrain_vit(torch.float32, out_indices=list(indices), **kwargs)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.eval()
    theirs.eval()  # returns None, where ours returns itself
    # 20x28 is no multiple of the patch: mmpretrain pads, and so must we.
    for size in [(IMG, IMG), (16, 32), (40, 24), (20, 28)]:
        img = images(2, *size, dtype=torch.float32)
        for a, b in zip(ours(img), theirs(img), strict=True):
            torch.testing.assert_close(a, b, msg=str(size))


def test_same_state_dict_names_and_shapes_as_mmpretrain():
    ours, theirs = build(), mmpretrain_vit(torch.float64)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in theirs.state_dict().items()
    ]


def test_prompts_add_only_names_below_prompter():
    ours, theirs = build({'type': 'LSPT', 'num_tokens': 2}), mmpretrain_vit(torch.float64)
    names = [k for k in ours.state_dict() if not k.startswith('prompter.')]
    assert names == list(theirs.state_dict()) == list(ours.describe().tensors)


@pytest.mark.parametrize('drop', [{'drop_rate': 0.3}, {'drop_path_rate': 0.5}], ids=str)
def test_equals_mmpretrain_in_training_when_all_is_tuned(drop):
    # 'raw', as the last block draws noise for those tokens alone that are asked for.
    ours = build(tune='full', out_type='raw', **drop).train()
    theirs = mmpretrain_vit(torch.float64, out_type='raw', **drop)
    theirs.train()
    theirs.load_state_dict(ours.state_dict())
    outs = []
    for model in (ours, theirs):
        torch.manual_seed(3)
        outs.append(model(images(8))[0])
    torch.testing.assert_close(*outs, rtol=1e-12, atol=1e-12)


# ---- timm -------------------------------------------------------------------------------------


def to_timm(state):
    """mmpretrain's names to timm's; written here so that no converter of the package is used."""
    pairs = [
        ('patch_embed.projection.', 'patch_embed.proj.'),
        ('layers.', 'blocks.'),
        ('.ffn.blocks.0.0.', '.mlp.fc1.'),
        ('.ffn.blocks.1.', '.mlp.fc2.'),
        ('.ln1.', '.norm1.'),
        ('.ln2.', '.norm2.'),
        ('.attn.gamma1.weight', '.ls1.gamma'),
        ('.ffn.gamma2.weight', '.ls2.gamma'),
    ]
    out = {}
    for name, value in state.items():
        name = 'norm.' + name[4:] if name.startswith('ln1.') else name
        for old, new in pairs:
            name = name.replace(old, new)
        out[name] = value
    return out


@pytest.mark.parametrize(('dtype', 'limit'), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize('name', ['default', 'layer-scale', 'no-qkv-bias'])
def test_equals_timm(name, dtype, limit):
    ours = build(out_type='raw', dtype=dtype, **VITS[name]).eval()
    theirs = TimmViT(
        img_size=IMG, patch_size=PATCH, embed_dim=ARCH['embed_dims'], depth=ARCH['num_layers'],
        num_heads=ARCH['num_heads'], mlp_ratio=2, num_classes=0,
        qkv_bias=name != 'no-qkv-bias', init_values=0.1 if name == 'layer-scale' else None,
    ).to(dtype).eval()
    theirs.load_state_dict(to_timm(ours.state_dict()), strict=True)
    img = images(2, dtype=dtype)
    with torch.no_grad():
        got, want = ours(img)[0], theirs.forward_features(img)
    assert (got - want).abs().max().item() < limit


# ---- prompts ----------------------------------------------------------------------------------


def test_prompts_are_seen():
    # Guards the oracles against prompts that have no effect at all.
    plain, prompted = build(), build({'type': 'LSPT', 'num_tokens': 3})
    prompted.load_state_dict(plain.state_dict(), strict=False)
    assert (plain(images())[0] - prompted(images())[0]).abs().max() > 1e-2


def test_avg_tokens_without_prompts_is_the_mean_of_patches():
    model = build(out_type='avg_tokens')
    raw = build(out_type='raw', final_norm=False)
    raw.load_state_dict(model.state_dict(), strict=False)
    want = model.ln1(raw(images())[0][:, 1:].mean(1))
    torch.testing.assert_close(model(images())[0], want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('out_type', ['raw', 'featmap', 'avg_patches'])
def test_a_final_norm_without_weights(out_type):
    model = build({'type': 'VPT', 'num_tokens': 2}, out_type=out_type, final_norm='identity')
    other = build({'type': 'VPT', 'num_tokens': 2}, out_type=out_type)
    torch.nn.init.ones_(other.ln1.weight)
    torch.nn.init.zeros_(other.ln1.bias)
    torch.testing.assert_close(model(images())[0], other(images())[0], rtol=1e-12, atol=1e-12)


def test_randomize_leaves_nothing_trivial():
    for name, parameter in randomize(build({'type': 'LSPT', 'num_tokens': 2})).named_parameters():
        assert parameter.ne(0).all() and parameter.ne(1).all(), name
