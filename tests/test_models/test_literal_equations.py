"""The model against a literal re-writing of the paper's equations: outputs and all gradients."""

import pytest
import torch
from method_table import METHODS, NO_TOKENS, ORACLES, SECOND, has_output, literal_forward
from vit_oracles import ARCH, IMG, build, images, weighted_sum

from lspt_mm.registry import PROMPTERS

DEPTH = ARCH['num_layers']
OUT_TYPES = (
    'raw', 'cls_token', 'featmap', 'avg_featmap', 'avg_tokens', 'avg_patches', 'avg_prompts'
)

#: A method of each kind of prompts: how an output is taken does not depend on more.
OF_EACH_KIND = (
    'vpt', 'vpt-deep', 'gated', 'vapt', 'approximated', 'rein', 'e2vpt', 'lspt', 'lspt-late',
    'lspt-last-block', 'dapt', 'condensed',
)

#: One row per switch, beside the shared table.
LSPT_SWITCHES = {
    'one-token': {'num_tokens': 1},
    'no-gspc': {'gspc': False},
    'no-gspc-no-lpc': {'gspc': False, 'lpc': False},
    'norm': {'hidden_norm': True},
    'standardize': {'standardize': True},
    'own-prompts': {'own_prompts': True},
    'plus-norm': {'standardize': True, 'own_prompts': True, 'hidden_norm': True},
    'plus-no-lpc': {'standardize': True, 'own_prompts': True, 'lpc': False},
    'plus-last-block': {'standardize': True, 'own_prompts': True, 'start_block': DEPTH},
    'norm-no-gspc-no-lpc': {'hidden_norm': True, 'gspc': False, 'lpc': False},
    'low-rank-1': {'cell': 'low-rank', 'rank': 1},
    'low-rank-no-gspc': {'cell': 'low-rank', 'rank': 3, 'gspc': False},
    'diagonal-norm-late': {'cell': 'diagonal', 'hidden_norm': True, 'start_block': 2},
}
#: The same for the other methods.
OTHER_SWITCHES = {
    'vpt-late': {'type': 'VPT', 'start_block': 2},
    'vpt-projected': {'type': 'VPT', 'project': 4},
    'vpt-deep-late': {'type': 'VPT', 'deep': True, 'start_block': 2},
    'gated-no-shaping': {'type': 'GatedPrompt', 'gate_init': -1.0, 'shaping': False},
    'gated-last-block': {'type': 'GatedPrompt', 'start_block': DEPTH},
    'bilinear-late': {'type': 'BilinearPrompt', 'rank': 4, 'start_block': 2},
    'bilinear-deep-all': {'type': 'BilinearPrompt', 'rank': 16, 'deep': True},
    'bilinear-deep-1': {'type': 'BilinearPrompt', 'rank': 1, 'deep': True, 'trained_right': 1},
    'fwhiten-deep': {'type': 'BilinearPrompt', 'mode': 'fwhiten', 'deep': True},
    'twhiten': {'type': 'BilinearPrompt', 'mode': 'twhiten'},
    'spt-shallow': {'type': 'SelfPrompt', 'start': 'mean'},
    'nsp2-last-block': {'type': 'NSP2', 'start_block': DEPTH},
    'vfpt-shallow-all': {'type': 'FourierPrompt', 'share': 1.0},
    'vfpt-none': {'type': 'FourierPrompt', 'share': 0.0, 'deep': True},
    'vapt-2x2': {'type': 'VAPT', 'rank': 3},
    'vapt-last-block': {'type': 'VAPT', 'start_block': DEPTH},
    'e2vpt-last-block': {'type': 'E2VPT', 'num_keys_values': 1, 'start_block': DEPTH},
    'e2vpt-more-pairs': {'type': 'E2VPT', 'num_keys_values': 5, 'num_tokens': 1},
    'cvpt-last-block': {'type': 'CVPT', 'start_block': DEPTH},
    'cvpt-one': {'type': 'CVPT', 'num_tokens': 1},
    'cvpt-no-biases': {'type': 'CVPT', 'biases': False},
    'approximated-full-rank': {'type': 'ApproximatedPrompt', 'rank': 16},
    'approximated-last-block': {'type': 'ApproximatedPrompt', 'rank': 1, 'start_block': DEPTH},
    'pro-vpt-random-last-block': {'type': 'PROVPT', 'policy': 'random', 'start_block': DEPTH},
    'da-vpt-guided': {'type': 'DAVPT', 'guided_tokens': 2, 'first_guided': 2},
    'da-vpt-all-guided': {'type': 'DAVPT', 'guided_tokens': 4, 'first_guided': 1},
    'da-vpt-last-block': {'type': 'DAVPT', 'start_block': DEPTH},
    'pae-vfpt': {'type': 'PAE', 'prompter': {'type': 'FourierPrompt', 'deep': True}},
    'pae-last-block': {'type': 'PAE', 'prompter': {'type': 'VPT'}, 'start_block': DEPTH},
    'dapt-gated': {'type': 'PrototypePrompt', 'prompter': {'type': 'GatedPrompt'}},
    'dapt-lspt': {'type': 'PrototypePrompt', 'prompter': {'type': 'LSPT', 'own_prompts': True}},
    'dapt-rein': {'type': 'PrototypePrompt', 'prompter': {'type': 'Rein'}},
    'vfpt-projected': {'type': 'FourierPrompt', 'share': 0.7, 'deep': True, 'project': 5},
}
SWITCHES = dict(METHODS)
for _name, _switches in OTHER_SWITCHES.items():
    SWITCHES[_name] = dict({'num_tokens': 3}, **_switches)
for _name, _switches in LSPT_SWITCHES.items():
    SWITCHES[_name] = dict({'type': 'LSPT', 'num_tokens': 3}, **_switches)


def assert_equals_literal(cfg, img, out_type='featmap', out_indices=(0, DEPTH - 1), **kwargs):
    # tune='full', so that gradients of the frozen parts are compared as well.
    model = build(cfg, tune='full', out_type=out_type, out_indices=out_indices, **kwargs).train()
    img = img.requires_grad_()
    outs = model(img)
    final_norm = kwargs.get('final_norm', True)
    expected = literal_forward(model, img, cfg, out_type, out_indices, final_norm)
    assert len(outs) == len(expected) == len(out_indices)
    for out, want in zip(outs, expected, strict=True):
        torch.testing.assert_close(out, want, rtol=1e-9, atol=1e-9)

    names = ['img'] + [n for n, _ in model.named_parameters()]
    leaves = [img] + list(model.parameters())
    got = torch.autograd.grad(weighted_sum(outs), leaves, allow_unused=True)
    wanted = torch.autograd.grad(weighted_sum(expected), leaves, allow_unused=True)
    for name, a, b in zip(names, got, wanted, strict=True):
        a = torch.zeros(()) if a is None else a
        b = torch.zeros(()) if b is None else b
        scale = max(1.0, b.abs().max().item())
        assert (a - b).abs().max().item() < 1e-9 * scale, name


def first_prompted(cfg):
    return cfg.get('start_block', 1) - 1


@pytest.mark.parametrize(
    ('name', 'out_type'),
    [(name, out_type) for name in SWITCHES for out_type in OUT_TYPES if has_output(name, out_type)
     and (out_type in ('raw', 'avg_tokens') or name in OF_EACH_KIND)],
)
def test_equals_literal(name, out_type):
    cfg = SWITCHES[name]
    # avg_prompts has nothing to say about blocks before the prompts.
    first = first_prompted(cfg) if out_type == 'avg_prompts' else 0
    assert_equals_literal(cfg, images(), out_type, tuple(sorted({first, DEPTH - 1})))


@pytest.mark.parametrize('size', [(16, 24), (8, 8)])
@pytest.mark.parametrize('name', METHODS)
def test_equals_literal_at_other_sizes(name, size):
    assert_equals_literal(METHODS[name], images(2, *size))


@pytest.mark.parametrize('size', [(16, 24), (40, 24)])
def test_vapt_resizes_its_maps(size):
    cfg = {'type': 'VAPT', 'num_tokens': 3, 'kernel_size': 2, 'rank': 3}
    assert_equals_literal(cfg, images(2, *size), img_size=(24, 16))


def test_vapt_of_images_smaller_than_its_kernel():
    model = build({'type': 'VAPT', 'num_tokens': 3})
    with pytest.raises(ValueError, match='a grid of 1 x 2 patches .* kernel of 2'):
        model(images(1, 8, 16))


@pytest.mark.parametrize('out_type', ['raw', 'featmap', 'avg_tokens', 'avg_prompts'])
@pytest.mark.parametrize(
    'kwargs',
    [
        {'final_norm': False},
        {'with_cls_token': False},
        {'qkv_bias': False},
        {'layer_scale_init_value': 0.1},
        {'img_size': (16, 32)},
        {'out_indices': (1, 2)},
        {'out_indices': (0, 1, 2)},
    ],
    ids=str,
)
def test_equals_literal_with_other_vits(kwargs, out_type):
    img = images(2, *kwargs.get('img_size', (IMG, IMG)))
    assert_equals_literal(METHODS['lspt'], img, out_type, **kwargs)


@pytest.mark.parametrize('depth', [1, 2, 5])
def test_equals_literal_at_other_depths(depth):
    arch = dict(ARCH, num_layers=depth)
    assert_equals_literal(METHODS['lspt'], images(), out_indices=(depth - 1,), arch=arch)


def test_every_registered_method_is_in_the_table_and_has_an_oracle():
    assert {cfg['type'] for cfg in METHODS.values()} == set(ORACLES) == set(PROMPTERS.module_dict)
    assert METHODS.keys() > SECOND


@pytest.mark.parametrize('hard_logits', [(-2.0, 3.0), (3.0, -2.0)])
def test_hard_gates_in_evaluation(hard_logits):
    cfg = {'type': 'GatedPrompt', 'num_tokens': 3, 'hard': True}
    model = build(cfg, out_type='featmap', out_indices=(0, DEPTH - 1)).eval()
    with torch.no_grad():
        model.prompter.gate_logits.copy_(torch.tensor(hard_logits))
    outs = model(images())
    for out, want in zip(
        outs, literal_forward(model, images(), cfg, 'featmap', (0, DEPTH - 1)), strict=True
    ):
        torch.testing.assert_close(out, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('name', sorted(NO_TOKENS))
def test_avg_prompts_of_a_method_without_prompts_says_so(name):
    model = build(METHODS[name], out_type='avg_prompts')
    with pytest.raises(ValueError, match='block 3 has no prompts'):
        model(images())
