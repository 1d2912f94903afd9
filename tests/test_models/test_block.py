"""block_forward against a literal block, and prompts as keys and values only against all of it."""

import pytest
import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from vit_oracles import block, randomize

from lspt_mm.models.mmpretrain_block import MMPretrainBlock
from lspt_mm.models.ops.temperature import divide_by_temperature
from lspt_mm.models.prompted_block import block_forward
from lspt_mm.models.tokens import Tokens

B, P, N, D, H = 2, 3, 5, 16, 4
LAYERS = {
    'default': {},
    'no-qkv-bias': {'qkv_bias': False},
    'scaled': {'layer_scale_init_value': 0.1},
}
TEMPERATURES = [None, 1.0, 0.3, 7.0]
#: Layers, images of the prompts, leading tokens and temperatures, each with each of the next.
CASES = [([*LAYERS][i % 3], (1, B)[i % 2], (0, 1, 3)[i // 4], TEMPERATURES[i % 4])
         for i in range(12)]


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


def run(module, x, prompts, extra, temperature, prompts_out, out_range=None):
    """x (B, extra + N, D) and the prompts as they leave the block, or None."""
    if prompts is None or not prompts_out:
        return block_forward(MMPretrainBlock(module), x, prompts, temperature, out_range), None
    row = Tokens(x, extra).with_prompts(prompts).x
    out = block_forward(MMPretrainBlock(module), row, None, temperature)
    out = Tokens(out, extra, prompts.size(1))
    return out.without_prompts, out.prompts


@pytest.mark.parametrize(('name', 'images', 'extra', 'temperature'), CASES)
def test_equals_literal_block(name, images, extra, temperature):
    module = layer(**LAYERS[name])
    x, prompts = tokens(B, extra + N, D), tokens(images, P, D, seed=1)
    got, got_prompts = run(module, x, prompts, extra, scalar(temperature), True)
    all_tokens = torch.cat((x[:, :extra], prompts.expand(B, -1, -1), x[:, extra:]), 1)
    want = block(dict(module.named_parameters()), '', all_tokens, H, temperature or 1.0)
    want_x = torch.cat((want[:, :extra], want[:, extra + P :]), 1)
    torch.testing.assert_close(got, want_x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(got_prompts, want[:, extra : extra + P], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(('name', 'images', 'extra', 'temperature'), CASES)
def test_read_only_prompts_change_nothing_for_x(name, images, extra, temperature):
    module = layer(**LAYERS[name])
    results = []
    for prompts_out in (True, False):
        x = tokens(B, extra + N, D).requires_grad_()
        prompts = tokens(images, P, D, seed=1).requires_grad_()
        tau = scalar(temperature)
        out, left = run(module, x, prompts, extra, tau, prompts_out)
        assert (left is None) == (not prompts_out)
        leaves = [x, prompts, *module.parameters()] + ([] if tau is None else [tau])
        results.append([out, *torch.autograd.grad((out * out.detach().cos()).sum(), leaves)])
    for full, short in zip(*results, strict=True):
        torch.testing.assert_close(short, full, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('temperature', TEMPERATURES)
def test_no_prompts(temperature):
    module, x = layer(), tokens(B, 1 + N, D)
    out = block_forward(MMPretrainBlock(module), x, temperature=scalar(temperature))
    want = block(dict(module.named_parameters()), '', x, H, temperature or 1.0)
    torch.testing.assert_close(out, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('prompts_out', [True, False])
def test_noise_of_a_block_in_training_is_applied(prompts_out):
    # A block that is tuned itself keeps its own dropout and drop path with prompts in it.
    for kwargs in ({'drop_path_rate': 0.5}, {'drop_rate': 0.5}, {'attn_drop_rate': 0.5}):
        module = layer(**kwargs).train()
        x, prompts = tokens(8, 1 + N, D), tokens(1, P, D)
        a, b = (run(module, x, prompts, 1, None, prompts_out)[0] for _ in range(2))
        assert not torch.equal(a, b), kwargs


@pytest.mark.parametrize(
    ('name', 'prompts', 'out_range'),
    [*(('default', prompts, out_range) for prompts in (None, 1, B)
       for out_range in ((0, 1), (1, 1 + N), (2, 4), (0, 1 + N), (3, 3))),
     ('no-qkv-bias', 1, (0, 1)), ('scaled', B, (1, 1 + N))],
    ids=str,
)
def test_what_is_asked_for_is_what_all_of_it_has_there(name, prompts, out_range):
    results = []
    for cut in (False, True):
        module = layer(**LAYERS[name])
        x, tau = tokens(B, 1 + N, D).requires_grad_(), scalar(0.7)
        kv_prompts = None if prompts is None else tokens(prompts, P, D, seed=1).requires_grad_()
        out = block_forward(MMPretrainBlock(module), x, kv_prompts, tau, out_range if cut else None)
        out = out if cut else out[:, out_range[0] : out_range[1]]
        leaves = [x, tau, *module.parameters()] + ([] if kv_prompts is None else [kv_prompts])
        results.append([out, *torch.autograd.grad((out * out.detach().cos()).sum(), leaves)])
    for whole, part in zip(*results, strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-10, atol=1e-10)


# ---- tokens -----------------------------------------------------------------------------------


@pytest.mark.parametrize('images', [1, B])
@pytest.mark.parametrize('extra', [0, 1, 4])
def test_prompts_are_put_in_behind_the_leading_tokens_and_taken_out_again(extra, images):
    x, prompts, others = tokens(B, extra + N, D), tokens(images, P, D), tokens(B, 2, D, seed=1)
    plain = Tokens(x, extra)
    assert plain.prompts is None and plain.without_prompts is x and plain.num_prompts == 0
    inside = plain.with_prompts(prompts)
    want = torch.cat((x[:, :extra], prompts.expand(B, -1, -1), x[:, extra:]), 1)
    assert torch.equal(inside.x, want)
    for one in (inside, Tokens(want, extra, P)):
        assert torch.equal(one.prompts, prompts.expand(B, -1, -1))
        assert torch.equal(one.prefix, x[:, :extra])
        assert torch.equal(one.patches, x[:, extra:])
        assert torch.equal(one.without_prompts, x)
        replaced = one.with_prompts(others)
        assert torch.equal(replaced.prompts, others) and torch.equal(replaced.without_prompts, x)
        assert torch.equal(one.with_prompts(None).x, x)
        assert one.with_prompts(None).num_prompts == 0


def test_the_same_prompts_put_in_again_copy_nothing():
    one = Tokens(tokens(B, 1 + P + N, D), 1, P)
    assert one.with_prompts(one.prompts) is one
    none = Tokens(tokens(B, 1 + N, D), 1)
    assert none.with_prompts(None) is none


@pytest.mark.parametrize('shape', [(), (1,), (B, 1, 1, 1)], ids=str)
def test_division_by_a_temperature_by_finite_differences(shape):
    q = tokens(B, H, N, D // H).requires_grad_()
    temperature = (0.5 + torch.rand(shape, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(divide_by_temperature, (q, temperature))
    assert torch.equal(divide_by_temperature(q, temperature), q / temperature)
