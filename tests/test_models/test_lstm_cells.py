"""The three cells against torch.nn.LSTMCell, their start, names and counts."""

import math

import pytest
import torch
from torch import nn
from vit_oracles import randomize

from lspt_mm.models import LSPT
from lspt_mm.models.prompters.lstm_cells import DiagonalCell, FullCell, LowRankCell

D, P, B = 8, 3, 2


def reference(cell, tokens, hidden, state):
    """torch's cell over all (B, P) tokens flattened."""
    flat = [t.expand(B, P, D).reshape(B * P, D) for t in (tokens, hidden, state)]
    h, c = cell(flat[0], (flat[1], flat[2]))
    return h.view(B, P, D), c.view(B, P, D)


def inputs(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (P, D), (B, P, D), (B, P, D)
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def torch_cell(weight_ih, weight_hh, like):
    cell = nn.LSTMCell(D, D).double()
    cell.load_state_dict(
        {
            'weight_ih': weight_ih,
            'weight_hh': weight_hh,
            'bias_ih': like.bias_ih.data,
            'bias_hh': like.bias_hh.data,
        }
    )
    return cell


def as_torch(cell):
    """torch.nn.LSTMCell that computes what ``cell`` should."""
    if isinstance(cell, LowRankCell):
        w = cell.weight_ih_u @ cell.weight_ih_v, cell.weight_hh_u @ cell.weight_hh_v
    elif isinstance(cell, DiagonalCell):
        w = [
            torch.cat([torch.diag(g) for g in v.chunk(4)]) for v in (cell.weight_ih, cell.weight_hh)
        ]
    else:
        w = cell.weight_ih, cell.weight_hh
    return torch_cell(w[0].data, w[1].data, cell)


CELLS = {
    'full': lambda: FullCell(D),
    'low-rank-2': lambda: LowRankCell(D, 2),
    'low-rank-full': lambda: LowRankCell(D, D),
    'diagonal': lambda: DiagonalCell(D),
}


@pytest.mark.parametrize('name', CELLS)
def test_equals_torch_lstm_cell(name):
    cell = randomize(CELLS[name]().double())
    want_cell = as_torch(cell)
    tokens, hidden, state = inputs()
    # Two steps, so that the cell state that is carried on counts too.
    h, c = cell(cell.input_gates(tokens), hidden, state)
    got = cell(cell.input_gates(tokens), h, c)
    h, c = reference(want_cell, tokens, hidden, state)
    want = reference(want_cell, tokens, h, c)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_no_state_is_zero_state():
    cell = randomize(FullCell(D).double())
    tokens, hidden, _ = inputs()
    zero = torch.zeros(B, P, D, dtype=torch.float64)
    for a, b in zip(
        cell(cell.input_gates(tokens), hidden),
        cell(cell.input_gates(tokens), hidden, zero),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-15)


def test_full_cell_exchanges_state_dicts_with_torch():
    cell, other = FullCell(D), nn.LSTMCell(D, D)
    assert {k: v.shape for k, v in cell.state_dict().items()} == {
        k: v.shape for k, v in other.state_dict().items()
    }
    cell.load_state_dict(other.state_dict(), strict=True)
    other.load_state_dict(cell.state_dict(), strict=True)


def test_low_rank_at_full_rank_is_the_full_cell():
    low, full = randomize(LowRankCell(D, D).double()), FullCell(D).double()
    with torch.no_grad():
        full.weight_ih.copy_(low.weight_ih_u @ low.weight_ih_v)
        full.weight_hh.copy_(low.weight_hh_u @ low.weight_hh_v)
        full.bias_ih.copy_(low.bias_ih)
        full.bias_hh.copy_(low.bias_hh)
    tokens, hidden, state = inputs()
    for a, b in zip(
        low(low.input_gates(tokens), hidden, state),
        full(full.input_gates(tokens), hidden, state),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


# ---- start ------------------------------------------------------------------------------------


@pytest.mark.parametrize('name', CELLS)
@pytest.mark.parametrize('bias', [0.0, 1.0, -2.5])
def test_forget_bias_is_the_only_bias_at_the_start(name, bias):
    build = {
        'full': lambda: FullCell(D, bias),
        'low-rank-2': lambda: LowRankCell(D, 2, bias),
        'low-rank-full': lambda: LowRankCell(D, D, bias),
        'diagonal': lambda: DiagonalCell(D, bias),
    }
    cell = build[name]()
    # Gate order i, f, g, o; both biases are added, only their sum matters.
    total = (cell.bias_ih + cell.bias_hh).view(4, D)
    assert total[1].eq(bias).all()
    assert total[[0, 2, 3]].eq(0).all()


def test_low_rank_products_start_with_the_full_cells_variance():
    torch.manual_seed(0)
    wide = 256
    low = LowRankCell(wide, 16)
    for product in (low.weight_ih_u @ low.weight_ih_v, low.weight_hh_u @ low.weight_hh_v):
        # U(-1/sqrt(D), 1/sqrt(D)) has variance 1/(3D).
        assert product.var().item() == pytest.approx(1 / (3 * wide), rel=0.1)


@pytest.mark.parametrize(('patch', 'width'), [(16, 768), (14, 1024), (8, 16)])
def test_prompts_start_uniform_as_in_vpt(patch, width):
    torch.manual_seed(0)
    prompts = LSPT(50, lpc=False, embed_dims=width, num_layers=12, patch_size=patch).prompts
    bound = math.sqrt(6 / (3 * patch * patch + width))
    assert prompts.abs().max().item() <= bound
    assert prompts.abs().max().item() > 0.99 * bound
    assert prompts.var().item() == pytest.approx(bound**2 / 3, rel=0.1)
    assert abs(prompts.mean().item()) < 0.05 * bound


def test_vit_b_bound_is_a_sixteenth():
    # The value VPT's paper leads to for B/16.
    assert LSPT(100, lpc=False).prompts.abs().max().item() == pytest.approx(0.0625, rel=1e-3)


# ---- counts and names -------------------------------------------------------------------------


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_full_cell_of_vit_b_has_4_724_736_parameters():
    assert count(FullCell(768)) == 4 * (2 * 768 * 768) + 8 * 768 == 4_724_736


@pytest.mark.parametrize('state', ['none', 'whole', 'for-all-images'])
@pytest.mark.parametrize('used', ['hidden', 'cell', 'both'])
def test_gradient_in_one_piece_by_finite_differences(used, state):
    cell = randomize(DiagonalCell(D).double())
    _, hidden, whole = inputs()
    gates = torch.randn(P, 4 * D, dtype=torch.float64)
    c = {'none': None, 'whole': whole, 'for-all-images': whole[0]}[state]
    leaves = [t.requires_grad_() for t in (gates, hidden, c) if t is not None]

    def step(gates, hidden, c=None):
        h, after = cell(gates, hidden, c)
        return {'hidden': h, 'cell': after, 'both': (h, after)}[used]

    assert torch.autograd.gradcheck(step, leaves)
