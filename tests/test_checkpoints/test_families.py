"""Every family of checkpoints gives the ViT that timm computes from the same weights."""

import argparse

import official_files
import pytest
import torch
from miniatures import ARCH, tiny_vit
from torch.nn import functional as F

from lspt_mm.checkpoints import load_backbone
from lspt_mm.checkpoints.key_mapping import group_ignored_keys
from lspt_mm.checkpoints.load_backbone import describe
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
}
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


def filled(shapes, prefix='', theirs=None):
    """Random tensors of these shapes; those of ``theirs`` for the ViT below ``prefix``."""
    theirs = timm_state() if theirs is None else theirs
    generator = torch.Generator().manual_seed(3)
    state = {k: torch.randn(shape, generator=generator) for k, shape in shapes.items()}
    for name, value in {**theirs, **renamed_if_known(theirs)}.items():
        if prefix + name in shapes:
            assert shapes[prefix + name] == tuple(value.shape), name
            state[prefix + name] = value
    return state


def renamed_if_known(state):
    return {NAMES[k]: v for k, v in state.items() if k in NAMES}


SIZE = official_files.Size()


def junk(*names):
    return {name: torch.full((3, 3), 7.0) for name in names}


def mae_encoder():
    return {'model': filled(official_files.mae_encoder(SIZE))}


def mae_linear_probe():
    return {'model': filled(official_files.mae_linear_probe(SIZE))}


def mae_visualisation():
    return {'model': filled(official_files.mae_with_decoder(SIZE))}


def mae_training():
    """checkpoint-N.pth of main_pretrain.py, with its command line."""
    args = argparse.Namespace(model='mae_vit_base_patch16', blr=1.5e-4, output_dir='out')
    model = filled(official_files.mae_with_decoder(SIZE))
    return {'model': model, 'optimizer': {'state': {}}, 'epoch': 3, 'scaler': {}, 'args': args}


def moco_v3():
    state = filled(official_files.moco_v3(SIZE), 'module.base_encoder.')
    return {'epoch': 300, 'arch': 'vit_base', 'state_dict': state, 'optimizer': {}, 'scaler': {}}


def moco_v3_linear_probe():
    state = filled(official_files.moco_v3_linear_probe(SIZE), 'module.')
    return {
        'epoch': 90, 'arch': 'vit_base', 'state_dict': state, 'best_acc1': torch.tensor(76.5),
        'optimizer': {},
    }


def timm_classifier():
    return filled(official_files.timm_classifier(SIZE))


def dino_training():
    """checkpoint.pth of DINO: the teacher is the one that is published."""
    student = {f'module.backbone.{k}': v for k, v in timm_state(seed=1).items()}
    teacher = {f'backbone.{k}': v for k, v in timm_state().items()}
    head = junk('head.mlp.0.weight', 'head.last_layer.weight_g')
    args = argparse.Namespace(arch='vit_base')
    return {'student': student, 'teacher': {**teacher, **head}, 'epoch': 1, 'args': args}


def someones_wrapper():
    """A prefix that nobody told us of."""
    return {'state_dict': {f'net.encoder.vit.{k}': v for k, v in timm_state().items()}}


def mmpretrain_plain():
    return filled(official_files.mmpretrain_plain(SIZE))


def mmpretrain_classifier():
    return {'state_dict': filled(official_files.mmpretrain_classifier(SIZE), 'backbone.')}


def mmpretrain_mae():
    state = filled(official_files.mmpretrain_mae(SIZE), 'backbone.')
    return {'state_dict': state, 'meta': {}, 'message_hub': {}}


def mmpretrain_moco_v3():
    return {'state_dict': filled(official_files.mmpretrain_moco_v3(SIZE), 'backbone.'), 'meta': {}}


def own_segmentor():
    """A run of this project: prompts and heads beside the ViT."""
    state = {f'backbone.{k}': v for k, v in renamed(timm_state()).items()}
    extra = junk('backbone.prompter.prompts', 'decode_head.conv_seg.weight', 'neck.up.weight')
    return {'state_dict': {**state, **extra}, 'meta': {}}


FAMILIES = [
    mae_encoder, mae_linear_probe, mae_visualisation, mae_training, moco_v3, moco_v3_linear_probe,
    timm_classifier, dino_training, someones_wrapper, mmpretrain_plain, mmpretrain_classifier,
    mmpretrain_mae, mmpretrain_moco_v3, own_segmentor,
]


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
    assert model.weights.source == str(tmp_path / 'vit.pth')
    assert set(report.loaded) == set(NAMES.values())
    assert report.resized == []
    found, given = model.state_dict(), timm_state()
    for name, theirs in NAMES.items():
        assert torch.equal(found[theirs].float(), given[name])


@pytest.mark.parametrize('family', FAMILIES, ids=lambda f: f.__name__)
def test_the_prompter_is_not_touched(family, tmp_path):
    torch.save(family(), tmp_path / 'vit.pth')
    model = vit(prompter={'type': 'LSPT', 'num_tokens': 2})
    before = {k: v.clone() for k, v in model.prompter.state_dict().items()}
    load_backbone(model, str(tmp_path / 'vit.pth'))
    assert all(torch.equal(v, before[k]) for k, v in model.prompter.state_dict().items())


@pytest.mark.parametrize(
    ('family', 'kinds'),
    [
        (mae_encoder, {}),
        (mae_linear_probe, {'head': 2}),
        (mae_training, {'decoder': 254 - 150 - 6 * 12}),
        (moco_v3, {'momentum encoder': 54 + 16, 'projector and predictor': 16 + 10}),
        (moco_v3_linear_probe, {'head': 2}),
        (dino_training, {'head': 2}),
        (mmpretrain_classifier, {'head': 2}),
        (mmpretrain_mae, {'decoder': 254 - 150 - 6 * 12}),
        (own_segmentor, {'prompts': 1, 'head': 1, 'decoder': 1}),
    ],
    ids=lambda f: getattr(f, '__name__', ''),
)
def test_what_is_set_aside_is_reported_by_kind(family, kinds, tmp_path):
    torch.save(family(), tmp_path / 'vit.pth')
    report = load_backbone(vit(), str(tmp_path / 'vit.pth'))
    found = {kind: len(keys) for kind, keys in group_ignored_keys(report.ignored).items()}
    assert found == kinds
    text = describe('vit.pth', report)
    assert all(f'{kind} ({count})' in text for kind, count in kinds.items())


def test_keys_of_unknown_purpose_are_named(tmp_path):
    torch.save({**timm_state(), 'frobnicator.weight': torch.zeros(2)}, tmp_path / 'vit.pth')
    report = load_backbone(vit(), str(tmp_path / 'vit.pth'))
    assert 'unknown purpose: frobnicator.weight' in describe('vit.pth', report)


def test_a_class_token_that_the_model_has_no_use_for_is_dropped(tmp_path):
    torch.save(timm_state(), tmp_path / 'vit.pth')
    model = vit(with_cls_token=False)
    report = load_backbone(model, str(tmp_path / 'vit.pth'))
    assert torch.equal(model.pos_embed, timm_state()['pos_embed'][:, 1:])
    assert 'cls_token' in report.ignored


# ---- position embedding -----------------------------------------------------------------------


@pytest.mark.parametrize(
    'size',
    # The last have as many patches as the file, in other places.
    [(48, 48), (16, 16), (24, 40), (64, 32), (32, 16), (64, 16), (16, 64), (128, 8)],
    ids=str,
)
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


def test_resized_without_class_token(tmp_path):
    state = timm_state()
    torch.save({'model': state}, tmp_path / 'vit.pth')
    model = vit(img_size=48, with_cls_token=False)
    load_backbone(model, str(tmp_path / 'vit.pth'))
    grid = state['pos_embed'][0, 1:].T.reshape(1, 16, 4, 4)
    grid = F.interpolate(grid, size=(6, 6), mode='bicubic', align_corners=False)
    torch.testing.assert_close(model.pos_embed[0], grid[0].flatten(1).T, rtol=0, atol=1e-6)
