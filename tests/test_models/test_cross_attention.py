"""CVPT and Approximated PT: special cases in which they are something simpler."""

import math

import pytest
import torch
from vit_oracles import ARCH, build, images

from lspt_mm.models import CVPT, ApproximatedPrompt, TimmPromptedViT
from lspt_mm.models.mmpretrain_block import MMPretrainBlock


def test_starts_of_cvpt():
    prompts = CVPT(10).prompts
    bound = math.sqrt(6 / ((12 + 10) * 768))
    assert 0.99 * bound < prompts.abs().max() <= bound


def test_starts_of_approximated():
    prompter = ApproximatedPrompt(200)
    assert abs(prompter.prompts.std().item() - 0.02) < 1e-3
    assert abs(prompter.down.std().item() - 1) < 0.02
    assert not prompter.up.any() and not prompter.log_scales.any()


def test_the_scale_of_approximated_multiplies_attention():
    tuned = build({'type': 'ApproximatedPrompt', 'num_tokens': 3}, out_type='raw')
    with torch.no_grad():
        tuned.prompter.prompts.zero_()
        tuned.prompter.log_scales.copy_(torch.tensor([0.3, -0.2, 1.0]))
    plain = build(out_type='raw')
    plain.load_state_dict(tuned.state_dict(), strict=False)
    with torch.no_grad():
        for layer, scale in zip(plain.layers, tuned.prompter.log_scales.exp(), strict=True):
            layer.attn.proj.weight *= scale
            layer.attn.proj.bias *= scale
    torch.testing.assert_close(tuned(images())[-1], plain(images())[-1], rtol=1e-12, atol=1e-12)


def test_the_weight_of_approximated_has_no_gradient():
    model = build({'type': 'ApproximatedPrompt', 'num_tokens': 1, 'rank': 1})
    with torch.no_grad():
        model.prompter.up.zero_()
        model.prompter.log_scales.zero_()
    u = torch.randn(1, 1, 16, dtype=torch.float64, requires_grad=True)
    m = model.prompter.prompts[0, 0].detach()
    u.data *= (u @ m).sign()  # the relu passes
    out = model.prompter.adapter(1).attention_output(torch.zeros_like(u), u)
    match = (u @ m).detach()
    torch.testing.assert_close(out, match.square()[..., None] * m)
    (gradient,) = torch.autograd.grad(out.sum(), u)
    torch.testing.assert_close(gradient, match * m.sum() * m[None, None])  # not twice as much


@pytest.mark.parametrize('scale', [0, 0.1])
def test_one_prompt_of_cvpt_adds_the_same_to_all_tokens(scale):
    """Its softmax is 1 whatever the token, and LayerScale applies."""
    model = build({'type': 'CVPT', 'num_tokens': 1}, layer_scale_init_value=scale)
    layer, prompt = model.layers[1], model.prompter.prompts[1, 0]
    x = torch.randn(2, 5, ARCH['embed_dims'], dtype=torch.float64)
    found = model.prompter.adapter(2).before_mlp(x, MMPretrainBlock(layer)) - x
    width = ARCH['embed_dims']
    attn = layer.attn
    value = attn.qkv.weight[2 * width :] @ prompt + attn.qkv.bias[2 * width :]
    want = attn.proj.weight @ value + attn.proj.bias
    if scale:
        want = want * attn.gamma1.weight
    torch.testing.assert_close(found, want.expand(2, 5, -1), rtol=1e-12, atol=1e-12)


def test_zero_prompts_of_cvpt_without_biases_are_the_plain_vit():
    tuned = build({'type': 'CVPT', 'num_tokens': 3, 'biases': False}, out_type='raw')
    torch.nn.init.zeros_(tuned.prompter.prompts)
    want = tuned(images(), prompter=False)[-1]
    torch.testing.assert_close(tuned(images())[-1], want, rtol=0, atol=1e-12)


#: LayerScale and registers; norms of queries and keys, with shared heads; a rotation.
TRUNKS = {
    'vit_small_patch14_reg4_dinov2': {},
    'vit_base_patch16_sapiens2': {'num_kv_heads': 2},
    'eva02_base_patch14_224': {},
    'vit_small_patch16_dinov3_qkvb': {},
}


def timm_vit(name, prompter, **kwargs):
    patch = 14 if 'patch14' in name else 16
    torch.manual_seed(0)
    model = TimmPromptedViT(
        name, img_size=4 * patch, prompter=prompter, out_type='raw', final_norm=False,
        model_args=dict(depth=2, embed_dim=48, num_heads=4, **TRUNKS[name]), **kwargs,
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter) + 0.7 * (parameter.dim() == 1))
    return model.eval(), torch.randn(2, 3, 4 * patch, 4 * patch).double()


@pytest.mark.parametrize('biases', [True, False])
@pytest.mark.parametrize('name', TRUNKS)
def test_cvpt_in_vits_of_timm(name, biases):
    """As the parts of a block add it: keys and values of a head for each of its query heads."""
    model, img = timm_vit(name, {'type': 'CVPT', 'num_tokens': 3, 'biases': biases})
    block, x = model.block(1), torch.randn(2, 7, 48).double()
    found = model.prompter.adapter(1).before_mlp(x, block)
    q = block.project(x, 0, 1)[0]
    k, v = block.project(model.prompter.prompts[:1], 1, 3)
    heads = []
    for h in range(4):
        weights = (q[:, h] @ k[0, h // block.groups].T * q.size(-1) ** -0.5).softmax(-1)
        heads.append(weights @ v[0, h // block.groups])
    want = block.branch(torch.cat(heads, -1), x)
    if not biases:
        (zero,) = block.project(torch.zeros_like(x), 2, 3)
        heads = [zero[:, h // block.groups] for h in range(4)]
        want = want - block.branch(torch.cat(heads, -1), x)
    want = block.add_attention(x, want)
    torch.testing.assert_close(found, want, rtol=1e-10, atol=1e-10)
    assert (model(img)[0] - model(img, prompter=False)[0]).abs().max() > 1e-6


def test_a_gate_of_the_block_gates_cvpt_as_well():
    model, _ = timm_vit('vit_base_patch16_sapiens2', {'type': 'CVPT', 'num_tokens': 3})
    block, x = model.block(1), torch.randn(2, 7, 48).double()
    adapter = model.prompter.adapter(1)
    want = adapter.before_mlp(x, block)
    block.attn.gate, block.gated = torch.nn.Linear(48, 48).double(), True
    with torch.no_grad():
        block.attn.gate.weight.zero_()
        block.attn.gate.bias.fill_(100.0)
        torch.testing.assert_close(adapter.before_mlp(x, block), want)
        block.attn.gate.bias.fill_(-100.0)
        shut = block.add_attention(x, block.attn.proj.bias.expand_as(x))
        torch.testing.assert_close(adapter.before_mlp(x, block), shut)


@pytest.mark.parametrize('method', ['E2VPT', 'APT'])
def test_heads_of_other_widths_are_refused(method):
    with pytest.raises(ValueError, match=f'{method}: block 1 of this ViT has keys and values'):
        timm_vit('vit_base_patch16_sapiens2', {'type': method, 'num_tokens': 3})
