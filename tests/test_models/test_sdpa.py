"""Attention over few tokens equals PyTorch's."""

import pytest
import torch
from torch.nn import functional as F

from lspt_mm.models.ops.sdpa import FEW, attention


def draw(keys, dtype, queries=7):
    torch.manual_seed(keys)
    shapes = ((2, 3, queries, 8), (2, 3, keys, 8), (2, 3, keys, 8))
    return [torch.randn(s, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


@pytest.mark.parametrize('keys', [1, 9, FEW, FEW + 1])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_equals_the_library_in_value_and_gradient(keys, dtype):
    ours, theirs = draw(keys, dtype), draw(keys, dtype)
    got, want = attention(*ours), F.scaled_dot_product_attention(*theirs)
    assert got.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)
    weight = torch.linspace(-1, 1, got.numel(), dtype=dtype).view_as(got)
    (got * weight).sum().backward()
    (want * weight).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize('autocast', [False, True])
def test_half_precision_rounds_once(autocast):
    """Computed in float32: off by the rounding of what comes out, 2^-9 of it, and no more."""
    q, k, v = draw(20, torch.bfloat16)
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        got = attention(q, k, v)
    assert got.dtype == torch.bfloat16
    assert ((got.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-6).all()


def test_a_mask_and_dropout_are_the_librarys():
    q, k, v = draw(5, torch.float32)
    mask = torch.tensor([True, False, True, True, False]).expand(7, 5)
    assert torch.equal(
        attention(q, k, v, attn_mask=mask), F.scaled_dot_product_attention(q, k, v, mask)
    )
    torch.manual_seed(0)
    got = attention(q, k, v, dropout_p=0.5)
    torch.manual_seed(0)
    assert torch.equal(got, F.scaled_dot_product_attention(q, k, v, dropout_p=0.5))
