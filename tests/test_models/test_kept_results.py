"""What is kept in eval mode, keys and values, gates: never another result than without."""

import copy
import pickle

import pytest
import torch
from method_table import METHODS
from vit_oracles import build, images, randomize

from lspt_mm.analysis.flops import count_flops

FIXED = ['vpt-deep', 'vpt-shared-late', 'bilinear-deep', 'twhiten-deep-late', 'spt', 'vfpt']
#: Methods with other products that do not depend on the image: of prompts, of gates.
OTHERS = ['vpt-deep-2-projected', 'bilinear', 'fwhiten', 'lspt', 'lspt-low-rank', 'lspt-late']


def fresh(model):
    """The output of an equal model that has never run."""
    with torch.no_grad():
        return copy.deepcopy(model)(images())[0]


def products(model):
    with torch.no_grad():
        return sum(count_flops(lambda: model(images())).values())


@pytest.mark.parametrize('grad', [False, True])
@pytest.mark.parametrize('batch', [1, 3])
@pytest.mark.parametrize('name', METHODS)
def test_the_second_call_gives_what_the_first_gave(name, batch, grad):
    # At batch 1 prompts of one image must not pass for everybody's.
    model = build(METHODS[name], out_type='featmap').eval()
    with torch.set_grad_enabled(grad):
        first = model(images(batch, seed=1))[0]
        other = model(images(batch, seed=2))[0]
        again = model(images(batch, seed=1))[0]
    assert torch.equal(first, again)
    want = build(METHODS[name], out_type='featmap').train()(images(batch, seed=2))[0]
    torch.testing.assert_close(other, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('name', METHODS)
def test_what_is_the_same_for_all_images_is_computed_once(name):
    model = build(METHODS[name]).eval()
    first, second = products(model), products(model)
    assert (second < first) == (name in FIXED + OTHERS)
    assert products(model) == second
    model.train()
    assert products(model) == first
    model.eval()
    assert products(model) == first


def write_prompts(model):
    with torch.no_grad():
        model.prompter.prompts.add_(0.5)


def write_norm(model):
    with torch.no_grad():
        model.layers[1].ln1.bias.add_(0.5)


def write_projection(model):
    model.layers[0].attn.qkv.weight.requires_grad_(False).mul_(1.5)


def replace_data(model):
    model.prompter.prompts.data = model.prompter.prompts.data + 0.5


def replace_parameter(model):
    model.prompter.prompts = torch.nn.Parameter(model.prompter.prompts.detach() - 0.5)


def load_other(model):
    other = copy.deepcopy(model)
    randomize(other, 7)
    model.load_state_dict(other.state_dict())


def load_other_prompter(model):
    other = copy.deepcopy(model.prompter)
    randomize(other, 7)
    model.prompter.load_state_dict(other.state_dict())


def swap_as_ema_does(model):
    for parameter in model.prompter.parameters():
        parameter.data.copy_(parameter.data * 2)
    model.eval()


def to_single(model):
    model.to(torch.float32).to(torch.float64)


@pytest.mark.parametrize(
    'change',
    [
        write_prompts,
        write_norm,
        write_projection,
        replace_data,
        replace_parameter,
        load_other,
        load_other_prompter,
        swap_as_ema_does,
        to_single,
    ],
)
@pytest.mark.parametrize('name', ['vpt-deep', 'lspt', 'lspt-diagonal-own'])
def test_whatever_is_changed_counts_at_the_next_call(name, change):
    model = build(METHODS[name], out_type='featmap').eval()
    with torch.no_grad():
        before = model(images())[0]
        change(model)
        after = model(images())[0]
    assert torch.equal(after, fresh(model))
    assert not torch.equal(after, before)


@pytest.mark.parametrize('name', ['vpt-deep', 'lspt'])
@pytest.mark.parametrize('copier', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_start_empty(name, copier):
    model = build(METHODS[name]).eval()
    first = products(model)
    other = copier(model)
    assert products(other) == first
    assert products(model) < first
    randomize(other, 5)
    with torch.no_grad():
        assert torch.equal(other(images())[0], fresh(other))


@pytest.mark.parametrize('name', ['vpt-deep', 'lspt'])
def test_precision_is_told_apart(name):
    model = build(METHODS[name], dtype=torch.float32, out_type='featmap').eval()
    img = images(dtype=torch.float32)
    with torch.no_grad():
        exact = model(img)[0]
        with torch.autocast('cpu', torch.bfloat16):
            coarse = [model(img)[0] for _ in range(2)]
        assert torch.equal(model(img)[0], exact)
    assert torch.equal(*coarse)
    assert not torch.equal(coarse[0].float(), exact)


@pytest.mark.parametrize('name', ['vpt-deep', 'lspt'])
def test_a_graph_is_never_kept(name):
    model = build(METHODS[name]).eval()
    with torch.no_grad():
        model(images())
    for _ in range(2):
        model.zero_grad()
        model(images())[0].sum().backward()
        assert model.prompter.prompts.grad.abs().sum() > 0


@pytest.mark.parametrize('name', ['vpt-deep', 'lspt'])
def test_inference_mode_before_and_after_no_grad(name):
    model = build(METHODS[name]).eval()
    with torch.inference_mode():
        first = model(images())[0].clone()
    with torch.no_grad():
        assert torch.equal(model(images())[0], first)
    model(images())[0].sum().backward()
