"""run_block against a literal block, and prompts as keys and values only against all of it."""

import pytest
import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from vit_oracles import block, randomize

from lspt_mm.models.block import insert_prompts, run_block, take_out_prompts

B, P, N, D, H = 2, 3, 5, 16, 4
LAYERS = {
    'default': {},
    'no-qkv-bias': {'qkv_bias': False},
    'scaled': {'layer_scale_init_value': 0.1},
}
TEMPERATURES = [None, 1.0, 0.3, 7.0]


def layer(**kwargs):
    return randomize(
        TransformerEncoderLayer(
            D, H, 2 * D, norm_cfg={'type': 'LN', 'eps': 1e-6}, **kwargs
        ).double()
    ).eval()


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def scalar(value):
    return None if value is None else torch.tensor(value, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize('temperature', TEMPERATURES)
@pytest.mark.parametrize('extra', [0, 1, 3])
@pytest.mark.parametrize('images', [1, B])
@pytest.mark.parametrize('name', LAYERS)
def test_equals_literal_block(name, images, extra, temperature):
    module = layer(**LAYERS[name])
    x, prompts = tokens(B, extra + N, D), tokens(images, P, D, seed=1)
    got, got_prompts = run_block(module, x, prompts, extra, scalar(temperature))
    all_tokens = torch.cat((x[:, :extra], prompts.expand(B, -1, -1), x[:, extra:]), 1)
    want = block(dict(module.named_parameters()), '', all_tokens, H, temperature or 1.0)
    want_x = torch.cat((want[:, :extra], want[:, extra + P :]), 1)
    torch.testing.assert_close(got, want_x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(got_prompts, want[:, extra : extra + P], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('temperature', TEMPERATURES)
@pytest.mark.parametrize('extra', [0, 1, 3])
@pytest.mark.parametrize('images', [1, B])
@pytest.mark.parametrize('name', LAYERS)
def test_read_only_prompts_change_nothing_for_x(name, images, extra, temperature):
    module = layer(**LAYERS[name])
    results = []
    for prompts_out in (True, False):
        x = tokens(B, extra + N, D).requires_grad_()
        prompts = tokens(images, P, D, seed=1).requires_grad_()
        tau = scalar(temperature)
        out, left = run_block(module, x, prompts, extra, tau, prompts_out)
        assert (left is None) == (not prompts_out)
        leaves = [x, prompts, *module.parameters()] + ([] if tau is None else [tau])
        results.append([out, *torch.autograd.grad((out * out.detach().cos()).sum(), leaves)])
    for full, short in zip(*results, strict=True):
        torch.testing.assert_close(short, full, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('temperature', TEMPERATURES)
def test_no_prompts(temperature):
    module, x = layer(), tokens(B, 1 + N, D)
    out, left = run_block(module, x, temperature=scalar(temperature))
    assert left is None
    want = block(dict(module.named_parameters()), '', x, H, temperature or 1.0)
    torch.testing.assert_close(out, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('prompts_out', [True, False])
def test_noise_of_a_block_in_training_is_applied(prompts_out):
    # A block that is tuned itself keeps its own dropout and drop path with prompts in it.
    for kwargs in ({'drop_path_rate': 0.5}, {'drop_rate': 0.5}, {'attn_drop_rate': 0.5}):
        module = layer(**kwargs).train()
        x, prompts = tokens(8, 1 + N, D), tokens(1, P, D)
        a, b = (run_block(module, x, prompts, 1, None, prompts_out)[0] for _ in range(2))
        assert not torch.equal(a, b), kwargs


@pytest.mark.parametrize('extra', [0, 1, 4])
def test_insert_and_take_out_are_inverse(extra):
    x, prompts = tokens(B, extra + N, D), tokens(1, P, D)
    got, got_prompts = take_out_prompts(insert_prompts(x, prompts, extra), P, extra)
    assert torch.equal(got, x)
    assert torch.equal(got_prompts, prompts.expand(B, -1, -1))
