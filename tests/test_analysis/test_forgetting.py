"""Prompts over depth, on methods whose memory is known without measuring it."""

import math

import pytest
import torch
from torch import nn

from lspt_mm.analysis import forgetting
from lspt_mm.analysis.forgetting import PromptTrace
from lspt_mm.analysis.similarity import linear_cka
from lspt_mm.models import PromptedViT

ARCH = {'embed_dims': 16, 'num_layers': 4, 'num_heads': 2, 'feedforward_channels': 16}


def look(prompter, images=3):
    torch.manual_seed(0)
    vit = PromptedViT(arch=ARCH, img_size=16, patch_size=8, prompter=prompter).eval()
    for name, parameter in vit.named_parameters():
        if 'gate_logits' not in name:
            nn.init.normal_(parameter, std=0.5)
    trace, steps = PromptTrace(), []
    generator = torch.Generator().manual_seed(1)
    for _ in range(images):
        img = torch.randn(1, 3, 16, 16, generator=generator)
        with torch.no_grad():
            vit.unroll(img, lambda step: (trace.add(step), steps.append(step)))
    return trace.result(), steps, vit


def cosines(x, y):
    return nn.functional.cosine_similarity(x, y, dim=-1).mean().item()


def test_shallow_prompts_are_what_the_block_before_made():
    found, steps, _ = look({'type': 'VPT', 'num_tokens': 5})
    assert found.blocks == [1, 2, 3, 4]
    assert found.passed_on == pytest.approx([1, 1, 1], abs=1e-5)
    # 3 images, one after the other, 4 steps each.
    entering = [torch.cat([s.prompts_in.expand(1, -1, -1) for s in steps[l::4]]) for l in range(4)]
    for i in range(4):
        for j in range(4):
            assert found.cosine[i][j] == pytest.approx(cosines(entering[i], entering[j]), abs=1e-5)
            expected = linear_cka(entering[i].flatten(0, 1), entering[j].flatten(0, 1))
            assert found.cka[i][j] == pytest.approx(expected, abs=1e-5)
    assert found.kept[:3] == pytest.approx([found.cosine[l][l + 1] for l in range(3)], abs=1e-5)


def test_deep_prompts_pass_nothing_on():
    found, _, vit = look({'type': 'VPT', 'num_tokens': 5, 'deep': True})
    assert all(map(math.isnan, found.passed_on))
    prompts = vit.prompter.prompts.detach()
    assert found.cosine[0][2] == pytest.approx(cosines(prompts[0], prompts[2]), abs=1e-5)
    # The same for all images: over the 5 prompts alone, whatever the number of images.
    assert found.cka[0][2] == pytest.approx(linear_cka(prompts[0], prompts[2]), abs=1e-6)
    assert found.spread == pytest.approx([1] * 4)


def test_blocks_with_different_numbers_of_prompts_are_not_compared():
    built = PromptedViT(arch=ARCH, img_size=16, patch_size=8,
                        prompter={'type': 'PROVPT', 'num_tokens': 2}).eval()
    built.prompter.block.copy_(torch.tensor([1, 1, 2, 2, 2, 4, 4, 4]))
    trace = PromptTrace()
    with torch.no_grad():
        built.unroll(torch.randn(1, 3, 16, 16), trace.add)
    found = trace.result()
    assert found.blocks == [1, 2, 4]  # none in block 3
    assert math.isnan(found.cosine[0][1]) and math.isnan(found.cka[0][2])
    prompts = built.prompter.prompts.detach()
    assert found.cosine[1][2] == pytest.approx(cosines(prompts[2:5], prompts[5:8]), abs=1e-5)


def test_closed_gates_forget_nothing():
    found, _, _ = look({'type': 'GatedPrompt', 'num_tokens': 5, 'gate_init': 20.0})
    assert all(value == pytest.approx(1, abs=1e-5) for row in found.cosine for value in row)
    assert all(value == pytest.approx(1, abs=1e-4) for row in found.cka for value in row)


def test_open_gates_are_shallow_prompts():
    gated, _, _ = look({'type': 'GatedPrompt', 'num_tokens': 5, 'gate_init': -20.0,
                        'shaping': False})
    assert gated.passed_on == pytest.approx([1, 1, 1], abs=1e-5)


def test_prompts_that_enter_late():
    found, _, _ = look({'type': 'LSPT', 'num_tokens': 3, 'start_block': 3})
    assert found.blocks == [3, 4]
    assert len(found.passed_on) == 1 and len(found.kept) == 2


def test_no_prompts():
    assert look(None)[0] is None


def test_spread_is_the_share_within_an_image():
    found, steps, _ = look({'type': 'LSPT', 'num_tokens': 4})
    x = torch.cat([s.prompts_in for s in steps[2::4]]).double()  # (3, 4, D) entering block 3
    within = sum(((one - one.mean(0)) ** 2).sum() for one in x)
    assert found.spread[2] == pytest.approx(float(within / ((x - x.mean((0, 1))) ** 2).sum()))


def test_alike_is_the_cosine_of_all_pairs_of_an_image():
    found, steps, _ = look({'type': 'LSPT', 'num_tokens': 3})
    x = torch.cat([s.prompts_in for s in steps[2::4]]).double()
    pairs = [cosines(x[:, a], x[:, b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert found.alike[2] == pytest.approx(sum(pairs) / 3)
    single, _, _ = look({'type': 'LSPT', 'num_tokens': 1})
    assert all(map(math.isnan, single.alike))


def test_norms_are_of_what_gspc_adds_up():
    found, steps, _ = look({'type': 'LSPT', 'num_tokens': 3, 'start_block': 2})
    for i, number in enumerate((2, 3)):
        of_block = [s for s in steps if s.number == number]
        made = torch.cat([s.prompts_out for s in of_block])
        assert found.made_norm[i] == pytest.approx(made.square().sum(-1).sqrt().mean().item())
        means = torch.cat([s.x_out[:, 1:].mean(1) for s in of_block])  # behind the class token
        expected = means.square().sum(-1).sqrt().mean().item()
        assert found.patch_norm[i] == pytest.approx(expected)
    deep, _, _ = look({'type': 'VPT', 'num_tokens': 3, 'deep': True})
    assert all(map(math.isnan, deep.made_norm)) and min(deep.patch_norm) > 0


def test_many_rows_are_drawn_from(monkeypatch):
    sizes = []

    def counted(x, y):
        sizes.append((len(x), len(y)))
        return linear_cka(x, y)

    monkeypatch.setattr(forgetting, 'linear_cka', counted)
    # Behind block 1 prompts are of their image: 9 images of 200 are 1,800 rows.
    many, _, _ = look({'type': 'LSPT', 'num_tokens': 200}, images=9)
    assert set(sizes) == {(200, 200), (1500, 1500)}  # those of block 1 among themselves, the rest
    assert many.cka[1][1] == pytest.approx(1)  # the same rows of both
