"""Every family of checkpoints gives the ViT that timm computes from the same weights."""

import pytest
import torch
from miniatures import ARCH, tiny_vit
from torch.nn import functional as F

from lspt_mm.checkpoints import load_backbone
from lspt_mm.models import PromptedViT

MODULES = {
    'patch_embed.proj': 'patch_embed.projection',
    'norm': 'ln1',
    **{
        f'blocks.{i}.{theirs}': f'layers.{i}.{ours}'
        for i in range(ARCH['num_layers'])
        for theirs, ours in {
            'norm1': 'ln1', 'norm2': 'ln2', 'attn.qkv': 'attn.qkv', 'attn.proj': 'attn.proj',
            'mlp.fc1': 'ffn.layers.0.0', 'mlp.fc2': 'ffn.layers.1',
        }.items()
    },
}  # fmt: skip
NAMES = {'cls_token': 'cls_token', 'pos_embed': 'pos_embed'} | {
    f'{k}.{kind}': f'{v}.{kind}' for k, v in MODULES.items() for kind in ('weight', 'bias')
}


def vit(**kwargs):
    kwargs = {'arch': ARCH, 'img_size': 32, 'patch_size': 8, 'out_type': 'raw', **kwargs}
    return PromptedViT(**kwargs).eval()


def timm_state(seed=0, **kwargs):
    return tiny_vit(seed=seed, **kwargs).state_dict()


def renamed(state):
    return {NAMES[k]: v for k, v in state.items()}


def prefixed(prefix, state):
    return {prefix + k: v for k, v in state.items()}


def junk(*names):
    return {name: torch.full((3, 3), 7.0) for name in names}


# Key lists of the official files, shortened to one tensor a part where the part is not the ViT.
def mae_encoder():
    return {'model': timm_state()}


def mae_with_decoder():
    decoder = junk(
        'mask_token', 'decoder_pos_embed', 'decoder_embed.weight', 'decoder_embed.bias',
        'decoder_blocks.0.norm1.weight', 'decoder_blocks.0.attn.qkv.weight',
        'decoder_blocks.0.mlp.fc1.weight', 'decoder_norm.weight', 'decoder_pred.weight',
    )  # fmt: skip
    return {'model': {**timm_state(), **decoder}, 'epoch': 1, 'optimizer': {}}


def moco_v3():
    head = junk('head.0.weight', 'head.1.running_mean', 'head.6.weight')
    base = {**timm_state(), **head}
    return {
        'epoch': 300,
        'arch': 'vit_base',
        'state_dict': {
            **prefixed('module.momentum_encoder.', {**timm_state(seed=1), **head}),
            **prefixed('module.base_encoder.', base),
            **prefixed('module.predictor.', junk('0.weight', '3.weight')),
        },
        'optimizer': {},
    }


def timm_classifier():
    return {**timm_state(), **junk('head.weight', 'head.bias')}


def data_parallel():
    return {'state_dict': prefixed('module.', timm_state())}


def mmpretrain_plain():
    return renamed(timm_state())


def mmpretrain_classifier():
    state = prefixed('backbone.', renamed(timm_state()))
    return {'state_dict': {**state, **junk('head.fc.weight', 'head.layers.head.weight')}}


def mmpretrain_mae():
    """A state dict of mmpretrain's own MAE, with a neck that has `layers` or blocks of its own."""
    from mmengine.registry import DefaultScope
    from mmpretrain.models import MAE  # noqa: F401
    from mmpretrain.registry import MODELS

    cfg = {
            'type': 'mmpretrain.MAE',
            'backbone': {
                'type': 'mmpretrain.MAEViT', 'arch': ARCH, 'img_size': 32, 'patch_size': 8,
                'mask_ratio': 0.75,
            },
            'neck': {
                'type': 'mmpretrain.MAEPretrainDecoder', 'num_patches': 16, 'patch_size': 8,
                'embed_dim': 16, 'decoder_embed_dim': 8, 'decoder_depth': 1, 'decoder_num_heads': 2,
            },
            'head': {
                'type': 'mmpretrain.MAEPretrainHead', 'patch_size': 8,
                'loss': {'type': 'mmpretrain.PixelReconstructionLoss', 'criterion': 'L2'},
            },
        }  # fmt: skip
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg)
    missing = model.backbone.load_state_dict(renamed(timm_state()), strict=False)
    assert not missing.missing_keys and not missing.unexpected_keys
    return {'state_dict': model.state_dict(), 'meta': {}, 'message_hub': {}}


def own_segmentor():
    """A run of this project: prompts and heads beside the ViT."""
    state = prefixed('backbone.', renamed(timm_state()))
    extra = junk('backbone.prompter.prompts', 'decode_head.conv_seg.weight', 'neck.up.weight')
    return {'state_dict': {**state, **extra}, 'meta': {}}


FAMILIES = [
    mae_encoder, mae_with_decoder, moco_v3, timm_classifier, data_parallel, mmpretrain_plain,
    mmpretrain_classifier, mmpretrain_mae, own_segmentor,
]  # fmt: skip


@pytest.fixture(scope='module')
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize('family', FAMILIES, ids=lambda f: f.__name__)
def test_features_equal_timms(family, images, tmp_path):
    torch.save(family(), tmp_path / 'vit.pth')
    model = vit()
    report = load_backbone(model, str(tmp_path / 'vit.pth'))
    expected = tiny_vit().double().forward_features(images.double())
    (out,) = model.double()(images.double())
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    assert model.weights_from == str(tmp_path / 'vit.pth')
    assert set(report.loaded) == set(NAMES.values())
    assert report.resized == []
    for name, theirs in NAMES.items():
        assert torch.equal(model.state_dict()[theirs].float(), timm_state()[name])


@pytest.mark.parametrize('family', FAMILIES, ids=lambda f: f.__name__)
def test_the_prompter_is_not_touched(family, tmp_path):
    torch.save(family(), tmp_path / 'vit.pth')
    model = vit(prompter={'type': 'LSPT', 'num_tokens': 2})
    before = {k: v.clone() for k, v in model.prompter.state_dict().items()}
    load_backbone(model, str(tmp_path / 'vit.pth'))
    assert all(torch.equal(v, before[k]) for k, v in model.prompter.state_dict().items())


@pytest.mark.parametrize('family', [mae_with_decoder, moco_v3, timm_classifier])
def test_what_is_set_aside_is_reported(family, tmp_path):
    content = family()
    torch.save(content, tmp_path / 'vit.pth')
    report = load_backbone(vit(), str(tmp_path / 'vit.pth'))
    state = content.get('model') or content.get('state_dict') or content
    assert len(report.ignored) == len(state) - len(NAMES)


def test_fine_tuned_mae_pools_before_its_norm(images, tmp_path):
    # MAE's fine-tuned files with global pooling have fc_norm (after the mean) and no norm.
    reference = tiny_vit(global_pool='avg', num_classes=5, fc_norm=True).double()
    state = {k: v.float() for k, v in reference.state_dict().items()}
    assert 'fc_norm.weight' in state and 'norm.weight' not in state
    torch.save({'model': state}, tmp_path / 'finetuned.pth')
    model = vit(out_type='avg_featmap', final_norm=False)
    pooled = reference.forward_head(reference.forward_features(images.double()), pre_logits=True)
    load_backbone(model, str(tmp_path / 'finetuned.pth'))
    (out,) = model.double()(images.double())
    torch.testing.assert_close(out, pooled, rtol=1e-6, atol=1e-6)


def test_vit_without_class_token(images, tmp_path):
    kwargs = {'class_token': False, 'global_pool': 'avg', 'fc_norm': False}
    torch.save(timm_state(**kwargs), tmp_path / 'vit.pth')
    model = vit(with_cls_token=False)
    load_backbone(model, str(tmp_path / 'vit.pth'))
    expected = tiny_vit(**kwargs).double().forward_features(images.double())
    torch.testing.assert_close(model.double()(images.double())[0], expected)


def test_a_class_token_that_the_model_has_no_use_for_is_dropped(tmp_path):
    torch.save(timm_state(), tmp_path / 'vit.pth')
    model = vit(with_cls_token=False)
    report = load_backbone(model, str(tmp_path / 'vit.pth'))
    assert torch.equal(model.pos_embed, timm_state()['pos_embed'][:, 1:])
    assert 'cls_token' in report.ignored


# ---- position embedding -----------------------------------------------------------------------


@pytest.mark.parametrize('size', [(48, 48), (16, 16), (24, 40), (64, 32), (32, 16)], ids=str)
def test_position_embedding_is_resized_to_the_grid(size, tmp_path):
    state = timm_state()
    torch.save({'model': state}, tmp_path / 'vit.pth')
    model = vit(img_size=size)
    report = load_backbone(model, str(tmp_path / 'vit.pth'))
    pos, (h, w) = state['pos_embed'], (size[0] // 8, size[1] // 8)
    grid = pos[0, 1:].T.reshape(1, 16, 4, 4)
    grid = F.interpolate(grid, size=(h, w), mode='bicubic', align_corners=False)
    assert torch.equal(model.pos_embed[:, :1], pos[:, :1])  # the class token's row
    torch.testing.assert_close(model.pos_embed[0, 1:], grid[0].flatten(1).T, rtol=0, atol=1e-6)
    assert len(report.resized) == 1 and f'{h}x{w}' in report.resized[0]


@pytest.mark.parametrize('size', [(64, 16), (16, 64), (128, 8)], ids=str)
def test_another_grid_with_as_many_patches_is_resized_too(size, tmp_path):
    # 4x4 and 2x8 have 16 patches each: the shapes agree, the places do not.
    state = timm_state()
    torch.save({'model': state}, tmp_path / 'vit.pth')
    model = vit(img_size=size)
    load_backbone(model, str(tmp_path / 'vit.pth'))
    grid = state['pos_embed'][0, 1:].T.reshape(1, 16, 4, 4)
    grid = F.interpolate(grid, size=(size[0] // 8, size[1] // 8), mode='bicubic')
    torch.testing.assert_close(model.pos_embed[0, 1:], grid[0].flatten(1).T, rtol=0, atol=1e-6)


def test_resized_without_class_token(tmp_path):
    state = timm_state()
    torch.save({'model': state}, tmp_path / 'vit.pth')
    model = vit(img_size=48, with_cls_token=False)
    load_backbone(model, str(tmp_path / 'vit.pth'))
    grid = state['pos_embed'][0, 1:].T.reshape(1, 16, 4, 4)
    grid = F.interpolate(grid, size=(6, 6), mode='bicubic', align_corners=False)
    torch.testing.assert_close(model.pos_embed[0], grid[0].flatten(1).T, rtol=0, atol=1e-6)
