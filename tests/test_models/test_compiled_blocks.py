"""compile_blocks: whole graphs, few of them, and the same numbers."""

import shutil
from itertools import product

import pytest
import torch
from method_table import METHODS
from torch._dynamo.testing import CompileCounterWithBackend
from vit_oracles import ARCH, build, images, weighted_sum

from lspt_mm.models import prompted_backbone
from lspt_mm.models.prompted_block import block_forward

DEEP = dict(ARCH, num_layers=6)


@pytest.fixture
def counter(monkeypatch):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend('aot_eager')
    # fullgraph: a break is an error.
    compiled = torch.compile(block_forward, backend=counter, fullgraph=True)
    monkeypatch.setattr(prompted_backbone, 'compiled_block_forward', lambda: compiled)
    yield counter
    torch._dynamo.reset()


def results(model, steps=2):
    for _ in range(steps):
        model.zero_grad()
        torch.manual_seed(0)
        outs = model(images(dtype=next(model.parameters()).dtype))
        weighted_sum(outs).backward()
    return [*outs, *(p.grad for p in model.parameters() if p.requires_grad)]


CHECKPOINTINGS = (False, True, 'selective')
NAMES = ('none', 'vpt', 'vpt-deep', 'gated', 'lspt', 'bilinear-deep')
#: The others are slow.
QUICK = {('lspt', 'selective')}


@pytest.mark.parametrize(
    ('name', 'with_cp'),
    [
        pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow)
        for pair in product(NAMES, CHECKPOINTINGS)
    ],
)
def test_whole_graphs_one_for_each_kind_of_block(name, with_cp, counter):
    kwargs = {'arch': DEEP, 'out_type': 'cls_token', 'tune': 'full', 'with_cp': with_cp}
    cfg = METHODS.get(name)
    want = results(build(cfg, **kwargs).train())
    got = results(build(cfg, compile_blocks=True, **kwargs).train())
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    # The first block's prompts are the same for all images, the last block is cut.
    assert 1 <= counter.frame_count <= 4


@pytest.mark.slow
def test_drop_path_breaks_no_graph(counter):
    model = build(tune='full', arch=DEEP, drop_path_rate=0.5, compile_blocks=True).train()
    results(model)
    assert counter.frame_count > 0


def test_frozen_and_in_eval_mode(counter):
    model = build(METHODS['vpt-deep'], arch=DEEP, compile_blocks=True).eval()
    with torch.no_grad():
        got = [model(images())[0] for _ in range(2)]
        want = build(METHODS['vpt-deep'], arch=DEEP)(images())[0]
    for one in got:
        torch.testing.assert_close(one, want, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which('g++') is None, reason='no C++ compiler')
@pytest.mark.parametrize('name', ['vpt-deep', 'gated', 'lspt'])
def test_by_the_real_compiler(name):
    torch._dynamo.reset()
    want = results(build(METHODS[name], dtype=torch.float32).float().train())
    got = results(build(METHODS[name], dtype=torch.float32, compile_blocks=True).float().train())
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
