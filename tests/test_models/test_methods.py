"""What each method promises by itself: counts, equivalences, gates, dropout."""

import math

import pytest
import torch
from method_table import DISCARD, IN_LOSSES, METHODS, NO_TOKENS, OF_THE_IMAGE, ORACLES
from test_literal_equations import SWITCHES
from vit_oracles import ARCH, IMG, PATCH, build, images, weighted_sum

from lspt_mm.models import VPT, BilinearPrompt, FourierPrompt, GatedPrompt, PromptedViT
from lspt_mm.models.prompters.base import Prompter
from lspt_mm.registry import PROMPTERS

D, L = 768, 12
DEPTH, WIDTH = ARCH['num_layers'], ARCH['embed_dims']
SIZE = {'arch': ARCH, 'img_size': IMG, 'patch_size': PATCH}

# ---- counts -----------------------------------------------------------------------------------

#: Trainable parameters on ViT-B/16, in figures.
COUNTS = [
    ('VPT', {'num_tokens': 100}, 76_800),
    ('VPT', {'num_tokens': 10, 'deep': True}, 92_160),
    ('VPT', {'num_tokens': 10, 'deep': True, 'start_block': 10}, 23_040),
    ('GatedPrompt', {'num_tokens': 100}, 76_800 + 11 + 12),
    ('GatedPrompt', {'num_tokens': 100, 'shaping': False}, 76_800 + 11),
    ('GatedPrompt', {'num_tokens': 100, 'start_block': 12}, 76_800 + 1),
    ('BilinearPrompt', {'num_tokens': 100, 'rank': 75}, 65_100),
    ('BilinearPrompt', {'num_tokens': 50, 'rank': 50, 'deep': True}, 183_600),
    ('BilinearPrompt', {'num_tokens': 50, 'rank': 50, 'deep': True, 'start_block': 11}, 81_800),
    ('BilinearPrompt', {'num_tokens': 100, 'mode': 'fwhiten'}, 76_800),
    ('BilinearPrompt', {'num_tokens': 100, 'mode': 'twhiten'}, 76_800 + 589_824),
    ('SelfPrompt', {'num_tokens': 100}, 76_800),
    ('FourierPrompt', {'num_tokens': 10, 'deep': True}, 92_160),
    ('VIPAMIN', {'num_tokens': 100}, 76_800),
    ('VIPAMIN', {'num_tokens': 20, 'deep': True}, 184_320),
    ('NSP2', {'num_tokens': 4}, 36_864),
    ('LSPT', {'num_tokens': 100}, 4_724_736 + 921_600),
    ('VAPT', {'num_tokens': 10}, 55_608),
    ('APT', {'num_tokens': 2}, 3_120),
    ('APT', {'num_tokens': 200}, 312_000),
    ('PROVPT', {'num_tokens': 20}, 184_320),
    ('CondensedPrompt', {'num_tokens': 100, 'start_block': 2}, 11 * 76_800),
    # MAE on CUB: 186,624 less the 36,864 of "+", less the head's; the derived total of the prompts.
    ('DAVPT', {'num_tokens': 15, 'guided_tokens': 20, 'first_guided': 10}, 149_760),
    ('DAVPT', {'num_tokens': 40, 'guided_tokens': 20}, 12 * 40 * 768 - 20 * 768),
    ('PAE', {'num_tokens': 10, 'prompter': {'type': 'VPT', 'deep': True}}, 92_160 + 2 * 256**2),
    ('PrototypePrompt', {'num_tokens': 16, 'prompter': {'type': 'VPT'}}, 16 * 768),
    ('Rein', {'num_tokens': 100}, 12 * 76_800 + 2 * (589_824 + 768) + 1),
    # The authors' 138,410 are these and the masks, 10 + 10 * 16.
    ('E2VPT', {'num_tokens': 10, 'num_keys_values': 5}, 138_410 - 170),
    ('E2VPT', {'num_tokens': 10, 'num_keys_values': 5, 'prune': 0.5}, 138_410 - 170),
    ('CVPT', {'num_tokens': 10}, 92_160),
    ('CVPT', {'num_tokens': 20, 'start_block': 12}, 15_360),
    ('ApproximatedPrompt', {'num_tokens': 200, 'rank': 4}, 1_916_940),
    ('ApproximatedPrompt', {'num_tokens': 50}, 534_540),
]


@pytest.mark.parametrize(('method', 'cfg', 'total'), COUNTS, ids=str)
def test_count_of_trainable_parameters_on_vit_b(method, cfg, total):
    counts = {n: p.numel() for n, p in PROMPTERS.get(method)(**cfg).named_parameters()}
    assert sum(counts.values()) == total
    assert counts == ORACLES[method].count(cfg, D, L - cfg.get('start_block', 1) + 1)


@pytest.mark.parametrize('name', SWITCHES)
def test_names_and_counts_of_trainable_parameters(name):
    cfg = SWITCHES[name]
    counts = {n: p.numel() for n, p in build(cfg).prompter.named_parameters()}
    assert counts == ORACLES[cfg['type']].count(cfg, WIDTH, DEPTH - cfg.get('start_block', 1) + 1)


# ---- starts -----------------------------------------------------------------------------------


def test_vpt_starts_uniformly_within_its_bound():
    prompts = VPT(100, deep=True).prompts
    assert 0.06 < prompts.abs().max() <= 0.0625
    assert abs(prompts.std().item() - 0.0625 / math.sqrt(3)) < 1e-3


def test_vpt_projection_starts_kaiming_normal_fan_out():
    # fan_out of (D, d) is D; gain of a leaky ReLU with slope 0 is sqrt(2).
    assert abs(VPT(1, project=512).projection.weight.std().item() - math.sqrt(2 / D)) < 1e-3


def test_gates_start_at_sigmoid_of_minus_gate_init():
    gates = GatedPrompt(1, gate_init=5).gates()
    torch.testing.assert_close(gates, torch.full((11,), 1 / (1 + math.exp(5))))
    assert abs(gates[0].item() - 0.0067) < 1e-4
    assert GatedPrompt(1).temperatures.eq(1).all()


def test_bilinear_starts():
    prompter = BilinearPrompt(100, rank=75, deep=True)
    assert abs(prompter.left.std().item() - 0.02) < 1e-3
    bound = math.sqrt(6 / (D + 75))  # Xavier, uniform
    assert 0.99 * bound < prompter.right.abs().max() <= bound
    assert prompter.right.shape == (12, D, 75)


# ---- equivalences -----------------------------------------------------------------------------


def same_outputs(a, b, out_type='avg_tokens'):
    outs = []
    for cfg, change in (a, b):
        model = build(cfg, out_type=out_type, out_indices=tuple(range(DEPTH))).eval()
        with torch.no_grad():
            change(model.prompter)
        outs.append(torch.stack(model(images())))
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-9, atol=1e-9)


def as_they_are(prompter):
    pass


@pytest.mark.parametrize(
    ('logit', 'vpt'), [(math.inf, 'vpt'), (-math.inf, 'vpt-deep')], ids=['open', 'closed']
)
def test_gated_at_temperature_one_is_vpt_shallow_or_deep_with_equal_prompts(logit, vpt):
    def set_gates(prompter):
        prompter.gate_logits.fill_(logit)
        prompter.temperatures.fill_(1.0)
        count_up(prompter)

    def count_up(prompter):
        one = prompter.prompts[0]
        values = torch.linspace(-1, 1, one.numel(), dtype=torch.float64)
        prompter.prompts.copy_(values.view_as(one))  # the same in all blocks

    out_type = 'avg_tokens' if vpt == 'vpt' else 'raw'
    same_outputs((METHODS['gated'], set_gates), (METHODS[vpt], count_up), out_type)


@pytest.mark.parametrize('name', ['bilinear', 'bilinear-deep', 'fwhiten', 'twhiten-deep-late'])
def test_bilinear_is_vpt_with_its_product_as_prompts(name):
    cfg = METHODS[name]
    product = {}

    def keep(prompter):
        product['prompts'] = prompter.left @ prompter.right.transpose(1, 2)

    def take(prompter):
        prompter.prompts.copy_(product['prompts'])

    vpt = {k: cfg[k] for k in ('num_tokens', 'deep', 'start_block') if k in cfg}
    same_outputs((cfg, keep), (dict(vpt, type='VPT'), take))


def test_fourier_without_share_is_vpt():
    cfg = dict(METHODS['vfpt'], share=0.0)
    vpt = {k: v for k, v in cfg.items() if k != 'share'}
    same_outputs((cfg, as_they_are), (dict(vpt, type='VPT'), as_they_are))


def test_number_of_fourier_prompts():
    counts = {share: FourierPrompt(10, share=share).num_fourier for share in (0, 0.14, 0.19, 1)}
    assert counts == {0: 0, 0.14: 1, 0.19: 1, 1: 10}
    assert [FourierPrompt(n).num_fourier for n in (1, 2, 3, 4, 5)] == [0, 1, 1, 2, 2]
    assert FourierPrompt(100, share=0.29).num_fourier == 29  # although 0.29 * 100 < 29


@pytest.mark.parametrize('gspc', [False, True])
def test_lspt_without_lpc_adds_its_prompts_to_the_blocks_output(gspc):
    model = build({'type': 'LSPT', 'num_tokens': 3, 'lpc': False, 'gspc': gspc}, out_type='raw')
    out, patches = torch.randn(2, 3, WIDTH).double(), torch.randn(2, 5, WIDTH).double()
    _, state = model.prompter.first(patches, (1, 5))
    prompts, _ = model.prompter.next(1, None, out, patches, state)
    want = model.prompter.prompts[1] + out
    if gspc:
        want = want + patches.mean(1, keepdim=True)
    torch.testing.assert_close(prompts, want)


def test_apt_scales_below_one_count_as_one_and_can_return():
    prompter = build({'type': 'APT', 'num_tokens': 3}).prompter
    with torch.no_grad():
        prompter.scales[0] = torch.tensor([[0.2, 1.5, 1.0], [3.0, -1.0, 1.0]])
    keys, values = prompter.keys_values(1)
    p = prompter.prompts[0]
    torch.testing.assert_close(keys[0, 0], torch.stack((p[0, 0], 1.5 * p[0, 1], p[0, 2])))
    torch.testing.assert_close(values[0, 0], torch.stack((3 * p[1, 0], p[1, 1], p[1, 2])))
    keys.sum().backward()
    torch.testing.assert_close(prompter.scales.grad[0, 0], p[0].sum(-1))


@pytest.mark.parametrize('out_type', ['raw', 'cls_token', 'avg_patches'])
@pytest.mark.parametrize(
    ('method', 'zeros'), [('Rein', ['scale']), ('ApproximatedPrompt', ['prompts', 'log_scales'])]
)
def test_of_zeros_it_is_the_plain_vit(method, zeros, out_type):
    tuned = build({'type': method, 'num_tokens': 3}, out_type=out_type)
    with torch.no_grad():
        for name in zeros:
            getattr(tuned.prompter, name).zero_()
    plain = build(out_type=out_type)
    plain.load_state_dict(tuned.state_dict(), strict=False)
    torch.testing.assert_close(tuned(images())[-1], plain(images())[-1], rtol=0, atol=1e-12)


@pytest.mark.parametrize('name', METHODS)
def test_every_trained_parameter_has_a_gradient_after_the_first_step(name):
    # From the method's own start, at which some gradients of the first step are 0.
    torch.manual_seed(0)
    cfg = dict(METHODS[name])
    plain = build(out_type='raw')
    model = PromptedViT(prompter=cfg, **SIZE, out_type='raw').double().train()
    model.load_state_dict(plain.state_dict(), strict=False)
    parameters = dict(model.prompter.named_parameters())
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        weighted_sum(model(images(2, 24, 24))).backward()
        optimizer.step()
    still = {f'prompter.{n}' for n, p in parameters.items() if p.grad is None or not p.grad.any()}
    assert still <= IN_LOSSES


# ---- gates and temperatures -------------------------------------------------------------------


def selection_by_unrolling(gates):
    """Follow the share of every output through P_l = g out + (1 - g) P_{l-1}."""
    shares = [1.0]
    for gate in gates:
        shares = [(1 - gate) * share for share in shares] + [gate]
    return shares


def test_selection_ratio():
    prompter = build(dict(METHODS['gated'], num_tokens=1), arch=dict(ARCH, num_layers=6)).prompter
    ratio = prompter.selection_ratio
    want = selection_by_unrolling(torch.sigmoid(prompter.gate_logits).tolist())
    torch.testing.assert_close(ratio, torch.tensor(want, dtype=torch.float64))
    assert ratio.shape == (6,) and abs(ratio.sum().item() - 1) < 1e-12
    assert not ratio.requires_grad


def test_gates_over_depth_are_numbered_by_their_blocks():
    prompter = GatedPrompt(2, gate_init=1.0, start_block=3, num_layers=5, embed_dims=8)
    found = list(prompter.per_block_stats().values())
    gate, tau, share = found
    assert gate == pytest.approx({3: 1 / (1 + math.e), 4: 1 / (1 + math.e)})  # none behind block 5
    assert tau == {3: 1, 4: 1, 5: 1}
    prompter.temperatures.data[1] = 70.0  # as it is used, not as it is stored
    assert list(prompter.per_block_stats().values())[1] == {3: 1, 4: 10, 5: 1}
    g = 1 / (1 + math.e)
    assert share == pytest.approx({0: (1 - g) ** 2, 3: g * (1 - g), 4: g})
    last = GatedPrompt(2, start_block=5, num_layers=5, embed_dims=8, shaping=False)
    assert list(last.per_block_stats().values()) == [{}, {}, {0: 1}]


def test_selection_ratio_at_the_start_and_of_one_block():
    assert GatedPrompt(1, gate_init=10).selection_ratio[0] > 0.999
    assert GatedPrompt(1, start_block=L).selection_ratio.tolist() == [1.0]


@pytest.mark.parametrize(
    ('tau', 'used'), [(0.005, 0.01), (-3.0, 0.01), (0.5, 0.5), (10.5, 10.0), (1e9, 10.0)]
)
def test_temperature_is_bounded_and_keeps_its_gradient(tau, used):
    prompter = GatedPrompt(1)
    with torch.no_grad():
        prompter.temperatures.fill_(tau)
    value = prompter.temperature(3)
    assert value.item() == pytest.approx(used)
    (3 * value).backward()
    want = torch.zeros(12)
    want[2] = 3
    torch.testing.assert_close(prompter.temperatures.grad, want)
    assert prompter.temperatures.eq(tau).all()  # the parameter itself is left alone


def test_temperature_out_of_bounds_comes_back():
    prompter = GatedPrompt(1)
    with torch.no_grad():
        prompter.temperatures.fill_(11.0)
    optimizer = torch.optim.SGD([prompter.temperatures], lr=1.0)
    for _ in range(20):
        optimizer.zero_grad()
        (prompter.temperature(1) - 2).square().backward()
        optimizer.step()
        if prompter.temperature(1) < 10:
            return
    raise AssertionError('the temperature never came back below its bound')


def test_hard_gates_are_zero_or_one_and_drawn_by_their_probability():
    torch.manual_seed(0)
    prompter = GatedPrompt(1, gate_init=1.0, hard=True).train()
    draws = torch.stack([prompter.gates() for _ in range(400)])
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    # 4,400 draws at sigmoid(-1) = 0.269: six standard deviations are 0.04.
    assert abs(draws.mean().item() - 0.269) < 0.04
    prompter.gates().sum().backward()
    grad = prompter.gate_logits.grad
    assert grad.gt(0).all() and grad.le(0.25).all()  # of a sigmoid
    assert prompter.eval().gates().eq(0).all()


# ---- dropout ----------------------------------------------------------------------------------


@pytest.mark.parametrize('name', ['vpt', 'vpt-deep', 'vfpt', 'gated'])
def test_one_dropout_mask_per_image_if_asked_for(name):
    cfg = dict(METHODS[name], dropout=0.5, dropout_mask='image')
    model = build(cfg).train()
    same = images(1).expand(4, -1, -1, -1)
    out = model(same)[0]
    assert all(not torch.allclose(out[i], out[0]) for i in range(1, 4))
    want = build(METHODS[name])(same)[0]
    assert torch.equal(model.eval()(same)[0], want)


def test_vfpt_drops_before_the_transform():
    cfg = dict(METHODS['vfpt'], share=1.0, dropout=0.5)
    prompter = build(cfg).train().prompter
    patches = torch.zeros(1, 4, ARCH['embed_dims'], dtype=torch.float64)
    torch.manual_seed(0)
    got, _ = prompter.first(patches, (2, 2))
    back = torch.fft.fft2(got[0]).real / got[0].numel()  # twice: reversed in both directions
    raw = prompter.prompts[0]
    # Re keeps the even part: (x(t, c) + x(-t, -c)) / 2, of prompts with zeros at random places.
    torch.manual_seed(0)
    dropped = torch.nn.functional.dropout(prompter.prompts.unsqueeze(1), 0.5)[0, 0]
    assert dropped.eq(0).any() and not torch.equal(dropped, raw)
    mirrored = dropped.roll((-1, -1), (0, 1)).flip(0, 1)
    torch.testing.assert_close(back, (dropped + mirrored) / 2, rtol=1e-9, atol=1e-9)


# ---- blocks before the prompts ----------------------------------------------------------------


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('start', range(1, DEPTH + 1))
def test_blocks_before_the_start_are_the_plain_vit_without_a_graph(name, start):
    cfg = dict(METHODS[name], start_block=start)
    model = build(cfg).train()
    steps, plain = [], []
    model.unroll(images(), steps.append)
    build().unroll(images(), plain.append)
    for step, same in zip(steps, plain, strict=True):
        assert step.x_out.requires_grad == (step.number >= start)
        assert torch.equal(step.x_out, same.x_out) == (step.number < start)


@pytest.mark.parametrize('name', METHODS)
def test_prompts_are_keys_and_values_only_where_nobody_reads_them(name):
    steps = []
    build(METHODS[name]).unroll(images(), steps.append)
    read = [step.number for step in steps if step.prompts_out is not None]
    start = METHODS[name].get('start_block', 1)
    want = [] if name in DISCARD | NO_TOKENS else list(range(start, DEPTH))
    assert read == want
    # What is discarded is not made per image either.
    same = name in DISCARD - OF_THE_IMAGE | NO_TOKENS
    assert all(s.prompts_in.size(0) == 1 for s in steps if s.prompts_in is not None) == same or (
        start == DEPTH
    )


#: Methods that act in another way than by the keys and values of attention.
OUTSIDE_ATTENTION = ('rein', 'cvpt', 'approximated')


@pytest.mark.parametrize('name', [n for n in METHODS if not n.startswith(OUTSIDE_ATTENTION)])
def test_prompts_nobody_attends_to_leave_the_plain_vit(name, monkeypatch):
    """Neutral case: prompts act through keys and values alone."""
    cfg = METHODS[name]
    model, plain = build(cfg, out_type='raw').eval(), build(out_type='raw').eval()
    if getattr(model.prompter, 'temperatures', None) is not None:
        torch.nn.init.ones_(model.prompter.temperatures)
    count = cfg['num_tokens'] + cfg.get('num_keys_values', 0)

    def without_prompts(q, k, v, **kwargs):
        if k.size(2) == 5 + count:  # 1 class token, 4 patches
            # Read-only prompts stand in front, others behind the class token.
            first = 0 if q.size(2) < k.size(2) else 1
            kept = [i for i in range(k.size(2)) if not first <= i < first + count]
            k, v = k[:, :, kept], v[:, :, kept]
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, **kwargs)

    for layer in model.layers:
        monkeypatch.setattr(layer.attn, 'scaled_dot_product_attention', without_prompts)
    assert not torch.allclose(build(cfg, out_type='raw')(images())[0], plain(images())[0])
    torch.testing.assert_close(model(images())[0], plain(images())[0], rtol=1e-9, atol=1e-9)


def test_a_method_without_one_of_its_two_functions_is_refused_when_built():
    class Half(Prompter):
        def first(self, patches, grid):
            return None, None

    with pytest.raises(TypeError, match='abstract method .?next'):
        Half(num_tokens=2, embed_dims=8, num_layers=2)
