"""attention_maps against softmax(q k^T / sqrt(d)) written out head by head."""

import math

import pytest
import torch
from torch import nn

from lspt_mm.analysis import attention_maps
from lspt_mm.analysis.attention import attention_of
from lspt_mm.models import PromptedViT

ARCH = {'embed_dims': 8, 'num_layers': 3, 'num_heads': 2, 'feedforward_channels': 16}
LSPT = {'type': 'LSPT', 'num_tokens': 3}


def build(**kwargs):
    torch.manual_seed(0)
    vit = PromptedViT(**{'arch': ARCH, 'img_size': 16, 'patch_size': 8, **kwargs}).double().eval()
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.5)
    return vit


def images(batch=2, size=(16, 16)):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1)).double()


def literal(vit, img, temperatures=None):
    """Per block: weights (B, H, T, T) of all tokens [cls | prompts | patches]."""
    steps = []
    vit.unroll(img, steps.append)
    result = []
    for step in steps:
        x, extra = step.x_in, vit.num_prefix_tokens
        parts = [x[:, :extra], x[:, extra:]]
        count = 0
        if step.prompts_in is not None:
            count = step.prompts_in.size(1)
            parts.insert(1, step.prompts_in.expand(x.size(0), -1, -1))
        tokens = torch.cat(parts, 1)
        layer = vit.layers[step.number - 1]
        normed = nn.functional.layer_norm(
            tokens, (8,), layer.ln1.weight, layer.ln1.bias, layer.ln1.eps
        )
        q, k, _ = (normed @ layer.attn.qkv.weight.T + layer.attn.qkv.bias).split(8, -1)
        heads = []
        for h in range(2):
            s = slice(4 * h, 4 * h + 4)
            logits = q[..., s] @ k[..., s].transpose(1, 2) / math.sqrt(4)
            if temperatures is not None and count:
                logits = logits / temperatures[step.number - 1]
            heads.append(logits.exp() / logits.exp().sum(-1, keepdim=True))
        result.append((torch.stack(heads, 1), extra, count))
    return result


def check(vit, img, grid, temperatures=None):
    maps = attention_maps(vit, img)
    expected = literal(vit, img, temperatures)
    assert [m.number for m in maps] == [1, 2, 3]
    for block, (weights, extra, count) in zip(maps, expected, strict=True):
        patches = weights[..., extra + count :].unflatten(-1, grid)
        if extra:
            torch.testing.assert_close(block.cls, patches[:, :, 0])
            assert block.cls.flatten(-2).sum(-1).max() <= 1
        else:
            assert block.cls is None
        if count:
            assert block.prompts.shape == (img.size(0), count, 2, *grid)
            for p in range(count):
                torch.testing.assert_close(block.prompts[:, p], patches[:, :, extra + p])
            # What is missing went to the class token and the prompts.
            assert block.prompts.flatten(-2).sum(-1).max() < 1
        else:
            assert block.prompts is None


@pytest.mark.parametrize(
    'kwargs',
    [
        {},
        {'prompter': LSPT},
        {'prompter': dict(LSPT, start_block=2)},
        {'prompter': LSPT, 'out_type': 'avg_tokens'},
        {'prompter': LSPT, 'with_cls_token': False, 'out_type': 'featmap'},
        {'with_cls_token': False, 'out_type': 'featmap'},
    ],
    ids=str,
)
@pytest.mark.parametrize('size', [(16, 16), (16, 40), (32, 8)], ids=str)
def test_against_softmax_by_hand(kwargs, size):
    check(build(**kwargs), images(size=size), (size[0] // 8, size[1] // 8))


@pytest.mark.parametrize('batch', [1, 3])
def test_batches(batch):
    vit, img = build(prompter=LSPT), images(batch)
    maps = attention_maps(vit, img)
    for i in range(batch):
        alone = attention_maps(vit, img[i : i + 1])
        for block, one in zip(maps, alone, strict=True):
            torch.testing.assert_close(block.cls[i : i + 1], one.cls)
            torch.testing.assert_close(block.prompts[i : i + 1], one.prompts)


def test_with_a_temperature():
    vit = build(prompter=LSPT)
    temperatures = torch.tensor([2.0, 0.5, 3.0]).double()
    vit.prompter.temperature = lambda number: temperatures[number - 1]
    check(vit, images(), (2, 2), temperatures)


def test_leaves_no_trace():
    vit, img = build(prompter=LSPT), images()
    before = vit(img)[0]
    maps = attention_maps(vit, img)
    assert torch.equal(vit(img)[0], before)
    assert not any(m.cls.requires_grad or m.prompts.requires_grad for m in maps)
    assert all(p.grad is None for p in vit.parameters())


def test_gated_prompts_that_enter_late():
    # Blocks before have no temperature; asking for one found another block's, or none at all.
    for start in (2, 3):
        prompter = {'type': 'GatedPrompt', 'num_tokens': 2, 'start_block': start}
        vit = build(prompter=prompter)
        vit.prompter.temperatures.data = torch.linspace(0.5, 2, 4 - start).double()
        at = {start + i - 1: t for i, t in enumerate(vit.prompter.temperatures.tolist())}
        check(vit, images(), (2, 2), at)


def test_registers_are_neither_class_token_nor_prompts():
    vit = build(num_registers=2, prompter=LSPT)
    check(vit, images(), (2, 2))


def test_further_keys_take_their_share_of_the_attention():
    vit = build(prompter={'type': 'APT', 'num_tokens': 3})
    img, steps = images(), []
    vit.unroll(img, steps.append)
    for step, found in zip(steps, attention_maps(vit, img), strict=True):
        layer = vit.layers[step.number - 1]
        normed = layer.ln1(step.x_in)
        q, k, _ = (normed @ layer.attn.qkv.weight.T + layer.attn.qkv.bias).split(8, -1)
        further = vit.prompter.keys_values(step.number)[0][0, 0]  # (3, 4), of both heads
        for h in range(2):
            s = slice(4 * h, 4 * h + 4)
            keys = torch.cat((k[..., s], further.expand(2, -1, -1)), 1)
            weights = (q[:, :1, s] @ keys.transpose(1, 2) / 2).softmax(-1)[:, 0]
            torch.testing.assert_close(found.cls[:, h].flatten(1), weights[:, 1:5])
        assert found.prompts is None


@pytest.mark.parametrize('method', ['GatedPrompt', 'APT'])
def test_a_pass_without_prompts_has_the_plain_vits_attention(method):
    vit, img = build(prompter={'type': method, 'num_tokens': 3}), images()
    found, want = [], []
    vit.unroll(img, lambda step: found.append(attention_of(vit, step).cls), prompted=False)
    vit.prompter = None
    vit.unroll(img, lambda step: want.append(attention_of(vit, step).cls))
    torch.testing.assert_close(found, want)
