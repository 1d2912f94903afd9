"""Prompts of any number in each block, and the scores that ordinary training steps give them."""

import pytest
import torch
from method_table import literal_forward
from vit_oracles import ARCH, build, images, weighted_sum

from lspt_mm.analysis.flops import count_flops
from lspt_mm.errors import InputError
from lspt_mm.models import PROVPT, CondensedPrompt
from lspt_mm.models.prompt_sets import PromptSets

DEPTH = ARCH['num_layers']
KINDS = ['PROVPT', 'CondensedPrompt']
#: Blocks of six prompts; 0 is removed.
LAYOUTS = {
    'uneven': [3, 1, 1, 2, 1, 3],
    'middle-empty': [3, 1, 1, 3, 1, 3],
    'first-empty': [3, 2, 2, 2, 3, 2],
    'last-empty': [1, 2, 2, 1, 1, 1],
    'all-in-the-last': [3] * 6,
    'removed': [0, 1, 0, 2, 3, 0],
    'one-left': [0, 0, 2, 0, 0, 0],
}


def pool(kind, layout, **kwargs):
    model = build({'type': kind, 'num_tokens': 2, 'dropout': 0.0}, **kwargs)
    model.prompter.block.copy_(torch.tensor(LAYOUTS[layout]))
    return model


def small(kind=PROVPT, **kwargs):
    torch.manual_seed(0)
    return kind(2, embed_dims=4, num_layers=3, num_heads=2, **kwargs).double()


def toy_loss(prompter, weights):
    """The sum of <w_i, p_i>, through what the blocks receive."""
    prompts, state = prompter.first(None, None)
    total = 0.0
    order = torch.tensor(sorted(range(6), key=prompter.block.tolist().__getitem__))
    rows = iter(weights[order[(prompter.block == 0).sum() :]])
    for l in range(1, 4):
        for one in [] if prompts is None else prompts[0]:
            total = total + (one * next(rows)).sum()
        if l < 3:
            prompts, state = prompter.next(l, prompts, None, None, state)
    return total


def weights_of(seed):
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- prompts ----------------------------------------------------------------------------------


@pytest.mark.parametrize('out_type', ['raw', 'cls_token', 'avg_tokens'])
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('kind', KINDS)
def test_any_layout_equals_literal(kind, layout, out_type):
    every = tuple(range(DEPTH))
    model = pool(kind, layout, out_type=out_type, out_indices=every).train()
    cfg = {'type': kind, 'num_tokens': 2}
    outs, want = model(images()), literal_forward(model, images(), cfg, out_type, every)
    for a, b in zip(outs, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    (got,) = torch.autograd.grad(weighted_sum(outs), model.prompter.prompts)
    (wanted,) = torch.autograd.grad(weighted_sum(want), model.prompter.prompts)
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('layout', ['removed', 'one-left'])
def test_removed_prompts_change_nothing_and_have_no_gradient(layout):
    model = pool('CondensedPrompt', layout, out_type='raw').train()
    out = model(images())[0]
    weighted_sum([out]).backward()
    gone = model.prompter.block == 0
    assert model.prompter.prompts.grad[gone].eq(0).all()
    assert model.prompter.prompts.grad[~gone].ne(0).any(1).all()
    with torch.no_grad():
        model.prompter.prompts[gone] = 1e3
    assert torch.equal(model(images())[0], out)


@pytest.mark.parametrize('layout', LAYOUTS)
def test_fused_prompts_cost_attention_alone(layout):
    model = pool('PROVPT', layout, out_type='cls_token').eval()
    with torch.no_grad():
        want = model(images())[0]
        before = sum(count_flops(lambda: model(images())).values())
        model.fuse()
        assert torch.equal(model(images())[0], want)
        counts = model.prompter.layout()
        assert model.prompter.fused_keys_values.keys() == {
            l for l, count in enumerate(counts, 1) if count
        }
        flops = sum(count_flops(lambda: model(images())).values())
        plain = build(out_type='cls_token').eval()
        of_plain = sum(count_flops(lambda: plain(images())).values())
    asking = (5, 5, 1)  # the last block computes the class token only
    width = ARCH['embed_dims']
    more = sum(4 * 2 * a * count * width for a, count in zip(asking, counts, strict=True))
    assert flops == of_plain + more
    # Keys and values, once for the batch.
    assert before == flops + 2 * 2 * sum(counts) * width**2


def test_a_last_block_without_prompts_has_none_to_return():
    model = pool('PROVPT', 'last-empty', out_type='avg_prompts')
    with pytest.raises(InputError, match='block 3 has no prompts'):
        model(images())
    assert pool('PROVPT', 'uneven', out_type='avg_prompts')(images())[0].shape == (2, 16)


@pytest.mark.parametrize('kind', [PROVPT, CondensedPrompt])
def test_start(kind):
    prompter = kind(20, start_block=3)
    assert prompter.layout() == (20,) * 10
    assert prompter.per_block_stats() == {'number of prompts': dict.fromkeys(range(3, 13), 20)}
    assert prompter.prompts.shape == (200, 768)
    assert 0.06 < prompter.prompts.abs().max() <= 0.0625  # VPT's bound


def test_prompt_sets_of_different_layouts():
    models = {name: pool('PROVPT', name, seed=i) for i, name in enumerate(LAYOUTS)}
    models['same'] = pool('PROVPT', 'uneven', seed=9)
    own = models['uneven'].own_tensors()
    for model in models.values():
        for name, tensor in model.own_tensors().items():
            tensor.data.copy_(own[name])
        model.load_state_dict(model.state_dict())
    img = images(len(models))
    want = [model.eval()(img[i : i + 1])[0] for i, model in enumerate(models.values())]
    sets = PromptSets()
    for name, model in models.items():
        sets.add(name, model)
    torch.testing.assert_close(sets(img, list(models))[0], torch.cat(want), rtol=1e-9, atol=1e-9)


# ---- scores -----------------------------------------------------------------------------------


def step(prompter, weights, scale=1.0):
    prompter.before_step()
    (scale * toy_loss(prompter, weights)).backward()
    prompter.after_step()


@pytest.mark.parametrize('layout', LAYOUTS)
def test_scores_of_a_linear_loss(layout):
    """dL/dp_i = w_i, so that I_i = <p_i, w_i>."""
    prompter, condensed = small(), small(CondensedPrompt)
    for one in (prompter, condensed):
        one.block.copy_(torch.tensor(LAYOUTS[layout]))
        for seed in range(3):
            step(one, weights_of(seed))
    alive = (prompter.block > 0).double()
    of_steps = torch.stack([(prompter.prompts * weights_of(s)).sum(1) * alive for s in range(3)])
    torch.testing.assert_close(prompter.scores, of_steps.sum(0))
    torch.testing.assert_close(condensed.scores, of_steps.square().sum(0))
    assert int(prompter.steps) == 3
    torch.testing.assert_close(prompter.take_scores(), of_steps.mean(0))
    assert not prompter.scores.any() and not prompter.steps


def test_dropout_is_part_of_the_loss():
    prompter = small(dropout=0.5).train()
    torch.manual_seed(1)
    step(prompter, weights_of(0))
    torch.manual_seed(1)
    kept = torch.nn.functional.dropout(torch.ones(6, 4, dtype=torch.float64), 0.5)
    torch.testing.assert_close(
        prompter.scores, (prompter.prompts * kept * weights_of(0)).sum(1).detach()
    )


@pytest.mark.parametrize('with_cp', [False, True, 'selective'])
def test_scores_are_derivatives_of_gates(with_cp):
    model = pool('PROVPT', 'uneven', out_type='raw', with_cp=with_cp).train()
    prompter = model.prompter
    prompter.before_step()
    weighted_sum(model(images())).backward()
    prompter.scores.zero_()
    prompter.after_step()
    prompts, eps = prompter.prompts.detach().clone(), 1e-5
    with torch.no_grad():
        for i in range(6):
            values = []
            for gate in (1 + eps, 1 - eps):
                prompter.prompts.copy_(prompts)
                prompter.prompts[i] *= gate
                values.append(float(weighted_sum(model(images()))))
            found = (values[0] - values[1]) / (2 * eps)
            assert float(prompter.scores[i]) == pytest.approx(found, rel=1e-5, abs=1e-7)


def test_two_forwards_of_a_step_and_none_outside_of_one():
    prompter = small()
    toy_loss(prompter, weights_of(0)).backward()
    prompter.before_step()
    for seed in (1, 2):
        toy_loss(prompter, weights_of(seed)).backward()
    prompter.after_step()
    toy_loss(prompter, weights_of(3)).backward()
    want = (prompter.prompts * (weights_of(1) + weights_of(2))).sum(1)
    torch.testing.assert_close(prompter.scores, want.detach())
    assert int(prompter.steps) == 1


def test_steps_that_are_not_finite_do_not_count():
    prompter = small()
    step(prompter, weights_of(0))
    want = prompter.scores.clone()
    for bad in (float('inf'), float('nan')):
        step(prompter, weights_of(1), bad)
    assert torch.equal(prompter.scores, want) and int(prompter.steps) == 1


def test_frozen_prompts_have_no_scores():
    prompter = small().requires_grad_(False)
    prompter.before_step()
    prompter.first(None, None)
    prompter.after_step()
    assert not prompter.scores.any()
