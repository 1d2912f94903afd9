"""Burstiness and LSPT's gates against scipy and against the equations written out."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from lspt_mm.analysis import burstiness as burstiness_module
from lspt_mm.analysis.burstiness import EDGES, _shape, burstiness
from lspt_mm.analysis.lstm_gates import GateTrace
from lspt_mm.models import PromptedViT

ARCH = {'embed_dims': 8, 'num_layers': 4, 'num_heads': 2, 'feedforward_channels': 16}


def build(prompter=None):
    torch.manual_seed(0)
    vit = PromptedViT(arch=ARCH, img_size=16, patch_size=8, prompter=prompter).eval()
    for parameter in vit.parameters():
        nn.init.normal_(parameter, std=0.5)
    return vit


def images(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, 3, 16, 16, generator=generator) for _ in range(count)]


@pytest.mark.parametrize('draw', ['normal', 'laplace'])
def test_kurtosis_and_density_are_scipys_and_numpys(draw):
    values = getattr(np.random.default_rng(0), draw)(size=50_000) * 3 + 7
    kurtosis, density = _shape(torch.from_numpy(values))
    assert kurtosis == pytest.approx(scipy.stats.kurtosis(values))
    scaled = (values - values.mean()) / values.std()
    inside = scaled[np.abs(scaled) <= 8]
    counts, _ = np.histogram(inside, EDGES.numpy())
    assert np.allclose(density, counts / len(values) / 0.25, atol=3 / len(values) / 0.25)


def test_burstiness_is_of_attentions_logits_and_whitened_on_other_images():
    vit = build()
    fit, judged = images(6), images(5, seed=2)
    (found,) = burstiness(vit, fit, judged, [2], epsilon=1e-6)

    def entries(batches):
        steps = []
        for img in batches:
            vit.unroll(img, steps.append)
        x = torch.cat([s.x_in[0, 1:] for s in steps if s.number == 2])  # (n, D)
        layer = vit.layers[1]
        normed = nn.functional.layer_norm(x, (8,), layer.ln1.weight, layer.ln1.bias, layer.ln1.eps)
        wq, wk = layer.attn.qkv.weight[:8], layer.attn.qkv.weight[8:16]
        return ((wq.T @ wk).double() @ normed.double().T).detach()  # (D, n)

    raw, other = entries(judged), entries(fit)
    assert found.kurtosis == pytest.approx(scipy.stats.kurtosis(raw.numpy().ravel()), rel=1e-4)
    s, u = torch.linalg.eigh(other @ other.T / other.size(1))
    whitened = (u / (s + 1e-6 * s.mean()).sqrt()) @ u.T @ raw
    expected = scipy.stats.kurtosis(whitened.numpy().ravel())
    assert found.whitened_kurtosis == pytest.approx(expected, rel=1e-3)


def test_burstiness_of_large_images_is_that_of_some_patches(monkeypatch):
    monkeypatch.setattr(burstiness_module, 'PATCHES', 3)
    sizes = []
    monkeypatch.setattr(burstiness_module, '_shape', lambda x: (sizes.append(x.numel()), []))
    burstiness(build(), images(2), images(5, seed=2), [1, 2])
    assert sizes == [5 * 3 * 8] * 4  # images, patches, channels: raw and whitened, two blocks


@pytest.mark.parametrize('cell', ['full', 'low-rank', 'diagonal'])
def test_gates_are_those_of_the_equations(cell):
    vit = build({'type': 'LSPT', 'num_tokens': 3, 'cell': cell, 'rank': 2, 'start_block': 2})
    trace, steps = GateTrace(vit.prompter), []
    for img in images(2):
        with torch.no_grad(), trace.watching():
            vit.unroll(img, steps.append)
    found = trace.result()
    assert [step.number for step in found] == [2, 3]  # between blocks 2 and 3, 3 and 4

    lstm, prompts = vit.prompter.lstm, vit.prompter.prompts.detach()
    memory = [None, None]
    for index, step in enumerate(found):
        rows = []
        for image in range(2):
            after = steps[4 * image + step.number - 1]
            hidden = after.prompts_out + after.x_out[:, 1:].mean(1, keepdim=True)
            with torch.no_grad():
                gates = lstm.from_input(prompts[1 + index]) + lstm.from_hidden(hidden)
                gates = gates + lstm.bias_ih + lstm.bias_hh
            i, f, g, o = gates.chunk(4, -1)
            old = 0 if memory[image] is None else f.sigmoid() * memory[image]
            memory[image] = old + i.sigmoid() * g.tanh()
            rows.append((i.sigmoid(), f.sigmoid(), g.tanh().abs(), o.sigmoid()))
        values = [torch.cat(parts) for parts in zip(*rows, strict=True)]
        assert list(step.mean.values()) == pytest.approx([float(v.mean()) for v in values], 1e-4)
        low = [0.05, 0.05, -1, 0.05]
        shares = [
            float(((v > 0.95) | (v < b)).float().mean())
            for v, b in zip(values, low, strict=True)
        ]
        assert list(step.saturated.values()) == pytest.approx(shares)
        assert step.cell == pytest.approx(float(torch.cat(memory).square().mean().sqrt()), 1e-4)


def test_watching_ends():
    vit = build({'type': 'LSPT', 'num_tokens': 3})
    trace = GateTrace(vit.prompter)
    with torch.no_grad(), trace.watching():
        vit(images(1)[0])
    seen = trace.result()
    with torch.no_grad():
        vit(images(1, seed=5)[0])
    assert trace.result() == seen and not vit.prompter.lstm._forward_hooks
