"""LoRA beside the projection against weights to which its product was added."""

import copy

import pytest
import torch
from method_table import METHODS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.models import ImageClassifier
from test_timm_prompted_vit import SMALL, TRUNKS
from vit_oracles import ARCH, images, randomize, weighted_sum

from lspt_mm.checkpoints.backbone import BackboneWeights
from lspt_mm.checkpoints.prompt_only import strip_base_weights
from lspt_mm.checkpoints.records import record_of
from lspt_mm.deployment import Exportable
from lspt_mm.models import PromptedViT, TimmPromptedViT

#: Packed with a bias, apart from it, none; separate; fewer heads of keys and values.
TIMM = ('vit_small_patch14_reg4_dinov2', 'vit_small_patch16_dinov3_qkvb',
        'vit_small_patch16_dinov3', 'eva02_base_patch14_224',
        'vit_base_patch16_sapiens2')
EVERY = ('mmpretrain', *TIMM)


def build(name, **kwargs):
    torch.manual_seed(0)
    if name == 'mmpretrain':
        vit = PromptedViT(ARCH, img_size=16, patch_size=8, out_type='raw', **kwargs)
    else:
        vit = TimmPromptedViT(
            name, img_size=28 if '14' in name else 32, out_type='raw',
            model_args={**SMALL, **TRUNKS[name]}, **kwargs,
        )
    return randomize(vit.double()).eval()


def projections(vit, number):
    """The modules that make queries, keys and values of a block, and each's rows of them."""
    attn = vit.layers[number].attn if hasattr(vit, 'layers') else vit.vit.blocks[number].attn
    if attn.qkv is None:
        return [(attn.q_proj, 'q'), (attn.k_proj, 'k'), (attn.v_proj, 'v')]
    return [(attn.qkv, 'qkv')]


def with_products(vit):
    """Names of weights to the sums of weights and LoRA's products, by their definition."""
    names = {id(parameter): name for name, parameter in vit.named_parameters()}
    found = {}
    for number, lora in enumerate(vit.lora):
        rows = iter(range(len(lora.up)))
        for layer, parts in projections(vit, number):
            height = len(layer.weight) // len(parts)
            blocks = []
            for part in parts:
                if part in lora.parts:
                    up = lora.up[[next(rows) for _ in range(height)]]
                    blocks.append(up @ lora.down)
                else:
                    blocks.append(torch.zeros(height, lora.down.shape[1]).double())
            found[names[id(layer.weight)]] = layer.weight + torch.cat(blocks)
    return found


@pytest.mark.parametrize('parts', ['qkv', 'qv', 'k'])
@pytest.mark.parametrize('name', EVERY)
def test_the_function_and_its_gradients(name, parts):
    vit = build(name, tune='lora-2', lora_parts=parts)
    img = images(2, *vit.img_size)
    outs = vit(img)
    trained = {n: p for n, p in vit.named_parameters() if p.requires_grad}
    assert trained and all(n.startswith('lora.') for n in trained)
    grads = torch.autograd.grad(weighted_sum(outs), list(trained.values()))
    want = torch.func.functional_call(vit, with_products(vit), (img, False))
    theirs = torch.autograd.grad(weighted_sum(want), list(trained.values()))
    for a, b in zip([*outs, *grads], [*want, *theirs], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)
    assert (outs[0] - vit(img, prompter=False)[0]).abs().max() > 1e-3


@pytest.mark.parametrize('name', EVERY)
def test_merging(name):
    vit = build(name, tune='prompts+lora-3', prompter=METHODS['lspt'])
    img = images(2, *vit.img_size)
    want = vit(img)[0].detach()
    vit.merge_lora()
    assert vit.lora is None
    torch.testing.assert_close(vit(img)[0], want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('name', EVERY)
def test_a_start_changes_nothing(name):
    torch.manual_seed(0)
    vit = build(name, tune='lora-8')
    for lora in vit.lora:
        torch.nn.init.zeros_(lora.up)
    img = images(2, *vit.img_size)
    assert torch.equal(vit(img)[0], vit(img, prompter=False)[0])
    fresh = PromptedViT(ARCH, img_size=16, patch_size=8, tune='lora-8')
    assert all(not lora.up.any() and lora.down.std() > 0 for lora in fresh.lora)


def test_counts():
    vit = build('mmpretrain', tune='prompts+lora-4', prompter=METHODS['vpt-deep'])
    count = sum(p.numel() for p in vit.parameters() if p.requires_grad)
    prompts = sum(p.numel() for p in vit.prompter.parameters())
    assert count == prompts + 3 * 4 * (16 + 3 * 16)
    sapiens = build('vit_base_patch16_sapiens2', tune='lora-4', lora_parts='kv')
    assert len(sapiens.lora[0].up) == 2 * 24  # two of four heads, 12 wide, of keys and of values


def test_both_paths_of_the_last_block():
    """What is read alone: queries of some tokens, keys and values of all."""
    for tune, method in (('lora-2', None), ('prompts+lora-2', METHODS['gated'])):
        vit = build('mmpretrain', tune=tune, prompter=method)
        img = images()
        raw = vit(img)[0]
        vit.out_type = 'cls_token'
        torch.testing.assert_close(vit(img)[0], raw[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('tune', ['lora', 'lora-0', 'lora--1', 'lora-x', 'bias+lora-4', 'Lora-4'])
def test_wrong_values(tune):
    with pytest.raises(ValueError, match=r"expected 'prompts', .*'lora-R'"):
        PromptedViT(ARCH, tune=tune)


@pytest.mark.parametrize('parts', ['', 'x', 'qx', None, ['q']])
def test_wrong_parts(parts):
    with pytest.raises(ValueError, match="letters of 'qkv'"):
        PromptedViT(ARCH, tune='lora-4', lora_parts=parts)


def test_blocks_that_run_as_a_whole_have_no_place_for_it():
    with pytest.raises(ValueError, match='LoRA cannot be added to it'):
        TimmPromptedViT('vit_small_patch16_18x2_224', model_args=SMALL, tune='lora-4')


def test_prompt_only_files_hold_it():
    vit = build('mmpretrain', tune='prompts+lora-2', prompter=METHODS['vpt'])
    vit.weights = BackboneWeights('base.pth', ())
    state = strip_base_weights(vit.state_dict(), '', record_of(vit, 'base.pth'))
    assert {key.split('.')[0] for key in state} == {'prompter', 'lora', 'base_record'}
    other = build('mmpretrain', tune='prompts+lora-2', prompter=METHODS['vpt'])
    other.weights = BackboneWeights('base.pth', ())
    for lora in other.lora:
        torch.nn.init.zeros_(lora.up)
    img = images()
    other.load_state_dict(dict(state))
    assert torch.equal(other(img)[0], vit(img)[0])


def test_exports_are_merged():
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    model = ImageClassifier(
        backbone=dict(type='lspt_mm.PromptedViT', arch=ARCH, img_size=16, patch_size=8,
                      tune='lora-2'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=16),
    )
    randomize(model).eval()
    model.cfg = Config({'default_scope': 'mmpretrain'})
    exported = Exportable(model)
    assert exported.model.backbone.lora is None and model.backbone.lora is not None
    img = images(dtype=torch.float32)
    packed = model.data_preprocessor(dict(inputs=list(img.flip(1))))['inputs']
    want = model(packed, mode='tensor')
    torch.testing.assert_close(exported(img), want, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['vit_small_patch14_dinov2', 'vit_small_patch16_224'])
def test_pefts_lora_is_the_same_function(name):
    """Where peft is installed: it is no dependency."""
    peft = pytest.importorskip('peft')
    vit = TimmPromptedViT(name, img_size=112, model_args=dict(depth=3), tune='lora-8',
                          out_type='raw').double().eval()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    theirs = copy.deepcopy(vit.vit).eval()
    config = peft.LoraConfig(r=8, lora_alpha=8, target_modules=['qkv'], lora_dropout=0.0)
    theirs = peft.inject_adapter_in_model(config, theirs).double()
    for lora, block in zip(vit.lora, theirs.blocks, strict=True):
        block.attn.qkv.lora_A['default'].weight.data.copy_(lora.down)
        block.attn.qkv.lora_B['default'].weight.data.copy_(lora.up)
    img = torch.randn(2, 3, 112, 112, dtype=torch.float64)
    want = theirs.forward_features(img)
    torch.testing.assert_close(vit(img)[0], want, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(vit(img, False)[0], want, rtol=1e-3, atol=1e-3)
    counts = [sum(p.numel() for n, p in m.named_parameters() if 'lora' in n) for m in (vit, theirs)]
    assert counts[0] == counts[1] == 3 * 8 * (384 + 3 * 384)
