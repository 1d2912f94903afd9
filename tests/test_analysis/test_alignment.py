"""Maps between features whose relation is known, and a flow against the paper's equations."""

import math
from functools import partial

import pytest
import torch

from lspt_mm.analysis.alignment import MIN_IMAGES, AlignmentTrace, align
from lspt_mm.analysis.realnvp import RealNVP, fit_realnvp
from lspt_mm.errors import InputError
from lspt_mm.models import PromptedViT

IMAGES, ROWS, D = 40, 20, 6


def rows(d=D, seed=0, images=IMAGES):
    """Features (n, d) and the image of each row."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(images * ROWS, d, generator=generator, dtype=torch.float64)
    return x * torch.linspace(2, 1, d) + 1, torch.arange(images).repeat_interleave(ROWS)


def rotation(d=D):
    return torch.linalg.qr(rows(d, seed=1)[0][:d])[0]


def flow(std=0.7):
    """A RealNVP in float64 that is far from the identity."""
    model = RealNVP(D).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std, generator=generator)
    return model


# ---- the flow ---------------------------------------------------------------------------------


def test_couplings_are_the_papers():
    model, x = flow(), rows()[0]
    want = x.clone()
    with torch.no_grad():
        for number, coupling in enumerate(model.couplings):
            kept, changed = want[:, number % 2 :: 2], want[:, 1 - number % 2 :: 2]
            s, t = coupling.net(kept).split(D // 2, dim=1)
            changed.mul_(torch.exp(2 * torch.tanh(s / 2))).add_(t)
        assert torch.allclose(model(x), want)


def test_a_flow_is_the_identity_at_the_start():
    x = rows()[0]
    assert torch.equal(RealNVP(D).double()(x), x)


@pytest.mark.parametrize('channels', [-2, 0, 1, 5])
def test_channels_that_cannot_be_split(channels):
    with pytest.raises(ValueError, match=f'channels={channels}: expected an even number'):
        RealNVP(channels)


def test_a_fit_ends_where_validation_is_best():
    x = rows()[0].float()
    y, weights = x + 1, torch.full((D,), 1 / D)
    assert fit_realnvp(x, y, weights, steps=7)[1] == 7
    assert fit_realnvp(x, y, weights, (x, x))[1] == 0  # where the identity is the best map
    assert fit_realnvp(x, y, weights, (x, y))[1] > 20


# ---- known relations --------------------------------------------------------------------------


def test_a_rotation_with_shift_and_scale():
    x, images = rows()
    found = align(x, -3 * x @ rotation() + 5, images)
    assert found.identity < 0.5 and found.components == D and found.kept == pytest.approx(1)
    assert found.orthogonal == pytest.approx(1, abs=1e-9)
    assert found.linear == pytest.approx(1, abs=1e-9)
    assert found.realnvp == pytest.approx(1, abs=1e-6)


def test_features_that_did_not_change():
    x, images = rows()
    assert align(x, x, images)[1:] == pytest.approx([1] * 5, abs=1e-6)


def test_a_linear_map():
    x, images = rows()
    found = align(x, x @ (torch.diag(torch.logspace(-1, 1, D)).double() @ rotation()), images)
    assert found.linear == pytest.approx(1, abs=1e-6) and found.orthogonal < 0.9
    assert found.realnvp == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize('turned', [False, True])
def test_an_invertible_map_that_is_not_linear(turned):
    x, images = rows()
    with torch.no_grad():
        y = flow(std=0.35)((x - 1) @ rotation() if turned else x - 1)
    found = align(x, y, images)
    assert found.orthogonal <= found.linear + 0.02 < found.realnvp - 0.08
    assert found.realnvp < 1


@pytest.mark.parametrize('d', [D, 32])
def test_features_that_have_nothing_in_common(d):
    x, images = rows(d)
    found = align(x, rows(d, seed=5)[0], images)
    for value in (found.orthogonal, found.linear, found.realnvp):
        assert -0.1 < value < 0.02


def test_scores_are_the_textbooks_on_the_held_out_images():
    x, images = rows()
    y = x @ rotation() + rows(seed=2)[0]
    held = images % 4 == 3
    a, b = (t[~held] - t[~held].mean(0) for t in (x, y))
    u, s, vh = torch.linalg.svd(a.T @ b)
    predicted = (x - x[~held].mean(0)) @ u @ vh * s.sum() / a.square().sum() + y[~held].mean(0)
    total = (y[held] - y[~held].mean(0)).square().sum()
    found = align(x, y, images)
    for value, residual in ((found.orthogonal, predicted - y), (found.identity, x - y)):
        assert value == pytest.approx(1 - float(residual[held].square().sum() / total))


def test_no_fit_sees_the_held_out_images():
    """Of fixed predictions p, sum (y + c - p)^2 has the second difference 2 n D in c."""
    x, images = rows()
    held = images % 4 == 3
    y = x @ rotation() + rows(seed=2)[0]
    mean = y[~held].mean(0)
    errors = []
    for c in (0, 1, 2):
        moved = y + c * held[:, None]
        found = torch.tensor(align(x, moved, images)[3:], dtype=torch.float64)
        errors.append((1 - found) * (moved[held] - mean).square().sum())
    second = errors[2] - 2 * errors[1] + errors[0]
    assert torch.allclose(second / (held.sum() * D), torch.full((3,), 2.0).double(), atol=1e-6)


@pytest.mark.parametrize(('d', 'images', 'components'), [(64, 40, 32), (7, 40, 6), (400, 16, 32)])
def test_components_where_there_are_many_channels(d, images, components):
    x, numbers = rows(d, images=images)
    found = align(x, x @ rotation(d), numbers)
    assert found.components == components and 0 < found.kept < 1
    few = numbers[:: ROWS // 2]  # two rows an image
    found = align(x[:: ROWS // 2], x[:: ROWS // 2], few)
    assert found.components == min(components, len(few) * 3 // 4 // 4 // 2 * 2)


# ---- what it must leave alone, and refuse -----------------------------------------------------


def test_results_repeat_and_random_numbers_stay():
    x, images = rows()
    y = flow(std=0.35)(x).detach()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with torch.no_grad():
        first = align(x, y, images)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert align(x, y, images) == first
    assert align(x.float(), y.float(), images + 70) == pytest.approx(first, abs=1e-2)


def test_constant_features_have_no_score():
    x, images = rows()
    assert all(map(math.isnan, align(x, torch.ones_like(x), images)[1:]))
    assert align(torch.ones_like(x), x, images).linear == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda x, i: (x, x[:, :3], i), r'\(800, 6\) and \(800, 3\).*expected \(n, D\)'),
        (lambda x, i: (x, x, i[:5]), r'\(5,\): expected'),
        (lambda x, i: (x, x.where(x < 4, math.inf), i), 'the tuned features contain inf'),
        (lambda x, i: (x.where(x < 4, math.nan), x, i), 'the plain features contain nan'),
        (lambda x, i: (x, x, i % 15), f'15 images: expected at least {MIN_IMAGES}'),
        (lambda x, i: (x[:, :1], x[:, :1], i), '600 training rows of 1 channels'),
    ],
)
def test_bad_features(change, words):
    with pytest.raises(InputError, match=words):
        align(*change(*rows()))


# ---- of a ViT ---------------------------------------------------------------------------------


def test_a_trace_takes_the_same_tokens_of_both_vits():
    torch.manual_seed(0)
    vit = PromptedViT(
        arch={'embed_dims': 8, 'num_layers': 3, 'num_heads': 2, 'feedforward_channels': 16},
        img_size=32, patch_size=4, prompter={'type': 'VPT', 'num_tokens': 3, 'start_block': 2},
    ).eval()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    trace = AlignmentTrace()
    for _ in range(4):
        img = torch.randn(4, 3, 32, 32)
        vit.unroll(img, partial(trace.add, 'plain'), prompted=False)
        vit.unroll(img, partial(trace.add, 'tuned'))
    found = trace.result()
    assert list(found) == [1, 2, 3]
    assert found[1][1:] == pytest.approx([1] * 5, abs=1e-6)  # before the prompts enter
    assert found[2].identity < 0.9999 and found[3].identity < 0.9999
