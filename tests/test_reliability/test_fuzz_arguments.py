"""Any value of an argument works, forward and backward, or ends in a ValueError that names it."""

import inspect
import math

import pytest
import torch
from fuzzing import many
from hypothesis import given
from hypothesis import strategies as st

from lspt_mm.models import PromptedViT
from lspt_mm.registry import PROMPTERS

ARCH = {'embed_dims': 8, 'num_layers': 3, 'num_heads': 2, 'feedforward_channels': 16}

#: What nobody means, of every kind; sizes are small, so that memory is not what is tested.
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 20), st.floats(width=32), st.just(math.nan),
    st.text(max_size=8), st.lists(st.integers(-2, 5), max_size=4), st.binary(max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2), st.just(()),
    st.sampled_from([1e39, -1e300, 10**30, 2**63, {1, 2}, b'x', object, 1j]),
)

#: Values that are meant, by the argument's name.
MEANT = {
    'num_tokens': st.integers(1, 9), 'dropout': st.floats(0, 0.9), 'start_block': st.integers(1, 3),
    'rank': st.integers(1, 8), 'deep': st.booleans(), 'cell': st.sampled_from(
        ['full', 'low-rank', 'diagonal']), 'trained_right': st.integers(1, 3),
    'start': st.sampled_from(['xavier', 'whiten']), 'epsilon': st.floats(1e-6, 1),
    'forget_bias': st.floats(-3, 3), 'gate_init': st.floats(-9, 9),
}

BACKBONE = {
    'img_size': st.sampled_from([16, (16, 24)]), 'patch_size': st.sampled_from([4, 8, (8, 4)]),
    'out_indices': st.sampled_from([-1, 2, (0, 2), (-3, -1)]), 'num_registers': st.integers(0, 3),
    'out_type': st.sampled_from(sorted(PromptedViT.OUT_TYPES)), 'final_norm': st.booleans(),
    'tune': st.sampled_from(['prompts', 'nothing', 'bias', 'prompts+bias', 'partial-2', 'full']),
    'with_cp': st.sampled_from([True, False, 'selective']), 'with_cls_token': st.booleans(),
    'drop_rate': st.floats(0, 0.9), 'drop_path_rate': st.floats(0, 0.9), 'qkv_bias': st.booleans(),
    'pre_norm': st.booleans(), 'interpolate_mode': st.sampled_from(['bicubic', 'bilinear']),
    'layer_scale_init_value': st.floats(0, 1), 'compile_blocks': st.just(False),
}


def options(meant):
    """Some of the arguments, most of them meant, one or the other odd."""
    return st.fixed_dictionaries(
        {}, optional={name: st.one_of(good, good, good, ODD) for name, good in meant.items()}
    )


def arguments_of(method):
    names = PROMPTERS.get(method).argument_names()
    parameters = inspect.signature(PROMPTERS.get(method).__init__).parameters
    meant = {}
    for name in names:
        default = parameters[name].default if name in parameters else None
        choices = st.booleans() if isinstance(default, bool) else st.just(default)
        meant[name] = MEANT.get(name, choices)
    return options(meant)


def try_out(arguments, img_size=16):
    """Build, run forward and backward; a ValueError has to name an argument."""
    try:
        vit = PromptedViT(**{'arch': ARCH, 'img_size': img_size, 'patch_size': 8, **arguments})
    except ValueError as error:
        prompter = arguments.get('prompter')
        names = {*arguments, 'rank', *(prompter if isinstance(prompter, dict) else ())}
        assert any(name in str(error) for name in names), str(error)
        return
    if vit.prompter is not None and vit.prompter.needs_preparation:
        return
    size = arguments.get('img_size', img_size)
    height, width = (size, size) if isinstance(size, int) else size
    vit.weights = vit.weights._replace(source='a test')
    vit.train()
    outputs = vit(torch.randn(2, 3, height, width))
    trained = [p for p in vit.parameters() if p.requires_grad]
    total = sum(out.float().square().mean() for out in outputs)
    assert torch.isfinite(total)
    if trained and total.requires_grad:
        total.backward()
        assert all(torch.isfinite(p.grad).all() for p in trained if p.grad is not None)


def methods():
    import lspt_mm.models.prompters  # noqa: F401

    return sorted(PROMPTERS.module_dict)


@pytest.mark.parametrize('method', methods())
def test_prompters(method):
    @many(60)
    @given(arguments_of(method))
    def some(arguments):
        try_out({'prompter': {'num_tokens': 2, **arguments, 'type': method}})

    some()


@many(150)
@given(options(BACKBONE), st.sampled_from([None, 'VPT', 'LSPT', 'GatedPrompt']))
def test_backbone(arguments, method):
    prompter = None if method is None else {'type': method, 'num_tokens': 2}
    try_out({'prompter': prompter, **arguments})


@many(60)
@given(options({name: st.just(value) for name, value in ARCH.items()}), ODD)
def test_architectures(changed, odd):
    for arch in ({**ARCH, **changed}, odd):
        try_out({'arch': arch, 'prompter': {'type': 'VPT', 'num_tokens': 2}})


@many(60)
@given(ODD)
def test_prompter_itself(odd):
    for prompter in (odd, {'type': odd}, {'type': 'VPT', 'num_tokens': 2, 'odd': odd}):
        try_out({'prompter': prompter})
