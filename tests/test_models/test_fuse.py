"""``fuse()``: the same outputs for fewer products, and no held tensor that is out of date."""

import copy
import pickle

import pytest
import torch
from method_table import METHODS
from mmengine.runner.checkpoint import load_state_dict as mmengine_load
from vit_oracles import build, images, randomize

from lspt_mm.analysis.flops import count_flops
from lspt_mm.errors import InputError

KEYS_VALUES = [
    'vpt-deep', 'vpt-deep-projected', 'bilinear-deep', 'twhiten-deep-late', 'spt', 'vfpt', 'e2vpt',
    'e2vpt-pruned-late', 'pro-vpt', 'pro-vpt-ppo-late', 'condensed', 'condensed-late',
    'da-vpt', 'da-vpt-late', 'pae', 'pae-bilinear-late',
    'vipamin-deep-late', 'nsp2', 'nsp2-late',
]
#: Methods with other products that do not depend on the image: of prompts, of gates.
OTHERS = [
    'bilinear', 'fwhiten', 'lspt', 'lspt-low-rank', 'lspt-late', 'lspt-own-prompts', 'vapt',
    'vapt-late',
]
HELD = ['vpt-deep', 'lspt', 'lspt-low-rank', 'bilinear', 'pro-vpt']


def output(model, img=None):
    with torch.no_grad():
        return model(images() if img is None else img)[0]


def products(model):
    with torch.no_grad():
        return sum(count_flops(lambda: model(images())).values())


def fused(name, **kwargs):
    model = build(METHODS[name], out_type='featmap', **kwargs).eval()
    model.load_state_dict(model.state_dict())  # now its weights count as read
    model.fuse()
    return model


@pytest.mark.parametrize('out_type', ['featmap', 'avg_tokens'])
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('name', METHODS)
def test_outputs_are_the_same_to_the_bit(name, batch, out_type):
    model = build(METHODS[name], out_type=out_type, out_indices=[0, 1, -1]).eval()
    img = images(batch, 24, 16)
    with torch.no_grad():
        want = model(img)
        model.fuse()
        other, got = model(images(batch, seed=2)), model(img)
        model.unfuse()
        assert all(torch.equal(a, b) for a, b in zip(want, got, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(want, model(img), strict=True))
    literal = build(METHODS[name], out_type=out_type, out_indices=[0, 1, -1]).train()
    for got, want in zip(other, literal(images(batch, seed=2)), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('name', METHODS)
def test_what_is_the_same_for_all_images_is_not_computed(name):
    model = build(METHODS[name]).eval()
    before = products(model)
    model.fuse()
    assert (products(model) < before) == (name in KEYS_VALUES + OTHERS)
    model.unfuse()
    assert products(model) == before


def train(model):
    model.train()
    randomize(model, 7)
    model.eval()


def load(model):
    model.load_state_dict(randomize(copy.deepcopy(model), 7).state_dict())


def load_prompter(model):
    model.prompter.load_state_dict(randomize(copy.deepcopy(model.prompter), 7).state_dict())


def load_one_tensor(model):
    name = 'layers.1.ln1.weight'
    model.load_state_dict({name: 2 * model.state_dict()[name]}, strict=False)


def load_by_mmengine(model):
    mmengine_load(model, randomize(copy.deepcopy(model), 7).state_dict())


def to_single_and_back(model):
    model.to(torch.float32).to(torch.float64)


def move_prompter(model):
    model.prompter.to(torch.float32).to(torch.float64)
    randomize(model, 7)


@pytest.mark.parametrize(
    'change',
    [train, load, load_prompter, load_one_tensor, load_by_mmengine, to_single_and_back,
     move_prompter],
)
@pytest.mark.parametrize('name', HELD)
def test_training_loading_and_moving_unfuse(name, change):
    model, plain = fused(name), build(METHODS[name], out_type='featmap').eval()
    before = products(model)
    change(model)
    plain.load_state_dict(model.state_dict())
    assert torch.equal(output(model), output(plain))
    assert products(model) == products(plain) > before


@pytest.mark.parametrize('name', HELD)
def test_eval_keeps_it(name):
    model = fused(name)
    before = products(model)
    assert products(model.eval()) == before


@pytest.mark.parametrize('name', HELD)
@pytest.mark.parametrize('copier', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_apart(name, copier):
    model = fused(name)
    want = output(model)
    other = copier(model)
    assert torch.equal(output(other), want) and products(other) == products(model)
    load(other)
    assert torch.equal(output(model), want) and not torch.equal(output(other), want)


@pytest.mark.parametrize('name', METHODS)
def test_the_state_dict_has_nothing_more(name):
    assert fused(name).state_dict().keys() == build(METHODS[name]).state_dict().keys()


@pytest.mark.parametrize('name', METHODS)
def test_under_autocast(name):
    model = build(METHODS[name], dtype=torch.float32, out_type='featmap').eval()
    img = images(dtype=torch.float32)
    with torch.autocast('cpu', torch.bfloat16):
        want = output(model, img)
        model.fuse()
        assert torch.equal(output(model, img), want)
    model.fuse()  # in float32: rounded where the run is in bfloat16
    with torch.autocast('cpu', torch.bfloat16):
        got = output(model, img)
    assert got.dtype == want.dtype
    torch.testing.assert_close(got, want, rtol=0.1, atol=0.1)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('name', HELD)
def test_in_low_precision(name, dtype):
    model = build(METHODS[name], dtype=torch.float32, out_type='featmap').to(dtype).eval()
    want = output(model, images(dtype=dtype))
    model.fuse()
    assert torch.equal(output(model, images(dtype=dtype)), want)


@pytest.mark.parametrize('name', HELD)
def test_images_still_get_a_gradient(name):
    model, img = fused(name), images().requires_grad_()
    model(img)[0].sum().backward()
    want = images().requires_grad_()
    build(METHODS[name], out_type='featmap').eval()(want)[0].sum().backward()
    torch.testing.assert_close(img.grad, want.grad, rtol=1e-10, atol=1e-10)


def test_train_mode_is_refused_and_a_plain_vit_has_nothing_to_fuse():
    with pytest.raises(InputError, match='eval'):
        build(METHODS['lspt']).train().fuse()
    build().fuse()
