"""Forward keeps nothing, and gives the same however it is called, copied, stored or batched."""

import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from method_table import IN_LOSSES, METHODS, has_output, literal_forward
from torch import nn
from vit_oracles import ARCH, build, images, weighted_sum

WITH_NONE = dict({'none': None}, **METHODS)
DEPTH = ARCH['num_layers']
ALL_BLOCKS = tuple(range(DEPTH))


def gradients(model, img, seed=0):
    torch.manual_seed(seed)
    img = img.clone().requires_grad_()
    model.zero_grad()
    outs = model(img)
    weighted_sum(outs).backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    return outs, img.grad, {n: p.grad for n, p in trained.items() if n not in IN_LOSSES}


# ---- batches ----------------------------------------------------------------------------------


@pytest.mark.parametrize('out_type', ['featmap', 'avg_tokens'])
@pytest.mark.parametrize('name', WITH_NONE)
def test_batch_invariance(name, out_type):
    model = build(WITH_NONE[name], out_type=out_type, out_indices=ALL_BLOCKS).eval()
    img = images(2)
    for both, a, b in zip(model(img), model(img[:1]), model(img[1:]), strict=True):
        torch.testing.assert_close(both, torch.cat((a, b)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('indices', [[-1, 0], [-1, 1], -1, (1, -1, 0)], ids=str)
def test_out_indices_as_in_mmpretrain(indices):
    # Outputs come in the order of blocks, each once, whatever the order of the indices.
    listed = [indices] if isinstance(indices, int) else indices
    wanted = sorted({i % DEPTH for i in listed})
    model = build(METHODS['lspt'], out_type='raw', out_indices=indices)
    every = build(METHODS['lspt'], out_type='raw', out_indices=ALL_BLOCKS)(images())
    outs = model(images())
    assert len(outs) == len(wanted)
    assert all(torch.equal(out, every[i]) for out, i in zip(outs, wanted, strict=True))


def test_arguments_are_not_changed():
    indices, cfg, arch = [-1, 0], dict(METHODS['lspt']), dict(ARCH)
    build(cfg, arch=arch, out_indices=indices)
    assert (indices, cfg, arch) == ([-1, 0], METHODS['lspt'], ARCH)


# ---- activation checkpointing -----------------------------------------------------------------


@pytest.mark.parametrize(
    ('with_cp', 'tune', 'out_type'),
    [(True, 'prompts', 'avg_tokens'), ('selective', 'full', 'featmap')],
)
@pytest.mark.parametrize('name', WITH_NONE)
def test_checkpointing_changes_nothing(name, out_type, tune, with_cp):
    cfg = WITH_NONE[name] and dict(WITH_NONE[name], dropout=0.2)
    kwargs = {'out_type': out_type, 'out_indices': ALL_BLOCKS, 'tune': tune, 'drop_path_rate': 0.3}
    results = [
        gradients(build(cfg, with_cp=choice, **kwargs).train(), images(3))
        for choice in (False, with_cp)
    ]
    (outs, grad_img, grads), (cp_outs, cp_grad_img, cp_grads) = results
    assert all(torch.equal(a, b) for a, b in zip(outs, cp_outs, strict=True))
    torch.testing.assert_close(cp_grad_img, grad_img, rtol=1e-12, atol=1e-12)
    assert grads.keys() == cp_grads.keys()
    for n in grads:
        torch.testing.assert_close(cp_grads[n], grads[n], rtol=1e-10, atol=1e-12, msg=n)


# ---- copies and files -------------------------------------------------------------------------


def through_file(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize(
    ('name', 'copier'),
    [*((name, through_pickle) for name in WITH_NONE),
     *((name, copier) for name in ('none', 'lspt', 'da-vpt')
       for copier in (copy.deepcopy, through_file))],
)
def test_copies_are_equal_and_apart(name, copier):
    model = build(WITH_NONE[name], tune='prompts+bias').train()
    before = gradients(model, images())
    other = copier(model)
    assert [(n, p.requires_grad) for n, p in model.named_parameters()] == [
        (n, p.requires_grad) for n, p in other.named_parameters()
    ]
    after = gradients(other, images())
    assert torch.equal(before[0][0], after[0][0])
    assert all(torch.equal(before[2][n], after[2][n]) for n in before[2])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert torch.equal(model(images())[0], before[0][0])


@pytest.mark.parametrize('name', WITH_NONE)
def test_state_dict_round_trip(name):
    model, other = build(WITH_NONE[name]), build(WITH_NONE[name], seed=1)
    assert not torch.equal(model(images())[0], other(images())[0])
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(model(images())[0], other(images())[0])


# ---- low precision ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('with_cp', 'out_type'),
    [
        (False, 'featmap'),
        ('selective', 'avg_tokens'),
        *(pytest.param(*both, marks=pytest.mark.slow)
          for both in [(False, 'avg_tokens'), (True, 'featmap'), (True, 'avg_tokens'),
                       ('selective', 'featmap')]),
    ],
)
@pytest.mark.parametrize('name', WITH_NONE)
def test_bf16_autocast(name, out_type, with_cp):
    model = build(
        WITH_NONE[name], dtype=torch.float32, tune='full', out_type=out_type, with_cp=with_cp
    ).train()
    img = images(dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = model(img)[0]
    out.float().sum().backward()
    assert out.isfinite().all()
    for n, parameter in model.named_parameters():
        if n in IN_LOSSES:
            continue
        assert parameter.grad is not None and parameter.grad.isfinite().all(), n
        assert parameter.grad.dtype == torch.float32, n
    # Near the exact one: bf16 has eight bits, a ViT of three blocks keeps most of them.
    exact = model(img)[0]
    assert (out.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


@pytest.mark.parametrize('name', WITH_NONE)
def test_whole_model_in_low_precision(name):
    model = build(WITH_NONE[name], dtype=torch.float32, out_type='featmap')
    model = model.to(torch.bfloat16).eval()
    for size in (16, 24):
        out = model(images(2, size, size, dtype=torch.bfloat16))[0]
        assert out.dtype == torch.bfloat16
        assert out.isfinite().all()


# ---- no state ---------------------------------------------------------------------------------


def snapshot(model):
    """What every module holds: names and identities of attributes, parameters and buffers."""
    held = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            items = value.items() if isinstance(value, dict) else [('', value)]
            held.update({(name, key, k): id(v) for k, v in items})
    return held


@pytest.mark.parametrize(
    ('name', 'out_type'),
    [(n, o) for n in METHODS for o in ('featmap', 'avg_prompts') if has_output(n, o)],
)
def test_forward_is_stateless(name, out_type):
    model = build(dict(METHODS[name], dropout=0.1), out_type=out_type, with_cp=True).train()
    before, values = snapshot(model), {k: v.clone() for k, v in model.state_dict().items()}
    weighted_sum(model(images(2, 24, 16))).backward()
    assert snapshot(model) == before
    assert all(torch.equal(v, values[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize('name', METHODS)
def test_two_backward_passes_of_interleaved_forwards(name):
    # A second forward must not disturb the graph of the first.
    model = build(METHODS[name], out_type='featmap').train()
    first, grad = images(seed=1).requires_grad_(), images(seed=1).requires_grad_()
    out = model(first)[0]
    model(images(3, 24, 24, seed=2))
    out.sum().backward()
    model(grad)[0].sum().backward()
    assert torch.equal(first.grad, grad.grad)


@pytest.mark.parametrize('name', METHODS)
def test_two_threads(name):
    model = build(METHODS[name], out_type='featmap').eval()
    batches = [images(1 + i % 3, 16 + 8 * (i % 2), 16, seed=i) for i in range(12)]
    want = [model(batch)[0] for batch in batches]
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda batch: model(batch)[0], batches))
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


class Scaled(nn.Module):
    """A backbone below another module, as in a classifier or a segmentor."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def forward(self, img):
        return self.backbone(img)[0]


def test_below_another_module():
    model = Scaled(build(METHODS['lspt'], drop_path_rate=0.5)).train()
    assert not model.backbone.layers[0].training
    assert model.backbone.prompter.training
    assert torch.equal(model(images()), model(images()))


def test_no_gradient_asked_for():
    model = build(METHODS['lspt'], out_type='featmap', with_cp=True).train()
    exact = model(images())[0]
    with torch.no_grad():
        assert torch.equal(model(images())[0], exact)
    with torch.inference_mode():
        assert torch.equal(model(images())[0], exact)


def test_unroll_shows_each_block_once_and_in_order():
    cfg = dict(METHODS['lspt'], start_block=2)
    model = build(cfg, out_type='avg_tokens')
    steps = []
    model.unroll(images(), steps.append)
    assert [s.number for s in steps] == list(range(1, DEPTH + 1))
    assert [s.prompts_in is None for s in steps] == [True, False, False]
    for before, after in zip(steps[:-1], steps[1:], strict=True):
        assert after.x_in is before.x_out
    assert all(s.hw == (2, 2) for s in steps)
    want = literal_forward(model, images(), cfg, 'raw', ALL_BLOCKS, final_norm=False)
    for step, raw in zip(steps, want, strict=True):
        torch.testing.assert_close(step.x_out, raw, rtol=1e-9, atol=1e-9)
