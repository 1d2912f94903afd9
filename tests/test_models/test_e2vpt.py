"""E2VPT's pruning: scores of ordinary steps, what is kept, the return to the start."""

import math

import pytest
import torch
from method_table import literal_forward
from vit_oracles import ARCH, build, images, weighted_sum

from lspt_mm.models import E2VPT
from lspt_mm.models.prompters.base import Training
from lspt_mm.models.prompters.e2vpt import largest

CFG = {'type': 'E2VPT', 'num_tokens': 4, 'num_keys_values': 2, 'prune': 0.5}


def build_wide(cfg, **kwargs):
    """A model with two channels in each of the 16 segments."""
    return build(cfg, arch=dict(ARCH, embed_dims=32), **kwargs)


def training(epoch, num_epochs=4, forget=lambda parameter: None):
    return Training(epoch, num_epochs, 1.0, forget)


def step(model, seed=0):
    """A training step as PrompterHook runs it, without an optimizer."""
    model.prompter.before_step()
    model.zero_grad()
    weighted_sum(model(images(seed=seed))).backward()
    model.prompter.after_step()


def test_starts():
    prompter = E2VPT(10)
    bound = math.sqrt(6 / (5 * 64))
    assert prompter.key_value_prompts.shape == (12, 12, 5, 64)
    assert 0.99 * bound < prompter.key_value_prompts.abs().max() <= bound
    assert 0.06 < prompter.prompts.abs().max() <= 0.0625


def test_without_pruning_there_are_no_buffers_and_no_hook():
    plain, pruning = E2VPT(2), E2VPT(2, prune=0.5)
    assert not list(plain.buffers()) and not plain.trains_by_hook()
    assert pruning.trains_by_hook()
    for name, parameter in pruning.named_parameters():
        assert torch.equal(getattr(pruning, f'start_{name}'), parameter)


def test_a_width_that_has_no_segments():
    with pytest.raises(ValueError, match='prune=0.5: a token of D = 24 has no 16 equal segments'):
        E2VPT(2, prune=0.5, embed_dims=24)
    E2VPT(2, embed_dims=24)


@pytest.mark.parametrize('out_type', ['featmap', 'avg_tokens'])
def test_masked_prompts_equal_the_literal_ones(out_type):
    model = build_wide(CFG, out_type=out_type).eval()
    model.prompter.token_mask[1] = False
    model.prompter.segment_mask[0, 2:6] = False
    model.prompter.segment_mask[3, 0] = False
    want = literal_forward(model, images(), CFG, out_type, (ARCH['num_layers'] - 1,))
    torch.testing.assert_close(model(images())[0], want[0], rtol=1e-9, atol=1e-9)
    masked = model.prompter.first(torch.zeros(1, 4, 32).double(), (2, 2))[1][:, 0]
    assert not masked[:, 1].any() and not masked[:, 0, 4:12].any() and not masked[:, 3, :2].any()
    assert masked.ne(0).sum() == 3 * (32 * 3 - 8 - 2)


def gradients_of_masks(model, seed):
    """|dloss/dt| and |dloss/ds| at 1, from masks that are leaves."""
    t = torch.ones(4, dtype=torch.float64, requires_grad=True)
    s = torch.ones(4, 16, dtype=torch.float64, requires_grad=True)
    plain = build_wide(dict(CFG, prune=None), seed=0, out_type='featmap').train()
    plain.load_state_dict(model.state_dict(), strict=False)
    prompts = plain.prompter.prompts
    masked = prompts.detach() * t[:, None] * s.repeat_interleave(2, dim=1)
    del plain.prompter.prompts
    plain.prompter.prompts = masked  # of all blocks
    total = weighted_sum(plain(images(seed=seed)))
    return [g.abs() for g in torch.autograd.grad(total, (t, s))]


@pytest.mark.parametrize('with_cp', [False, True, 'selective'])
def test_scores_are_the_gradients_of_the_masks(with_cp):
    model = build_wide(CFG, out_type='featmap', with_cp=with_cp).train()
    model.prompter.token_scores.zero_()
    model.prompter.segment_scores.zero_()
    for seed in (0, 1):
        step(model, seed)
    found = (model.prompter.token_scores, model.prompter.segment_scores)
    pairs = zip(*(gradients_of_masks(model, seed) for seed in (0, 1)), strict=True)
    for scores, of_steps in zip(found, pairs, strict=True):
        torch.testing.assert_close(scores, sum(of_steps), rtol=1e-9, atol=1e-9)


def test_other_passes_are_not_scored():
    model = build_wide(CFG).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    weighted_sum(model(images())).backward()
    model.prompter.before_step()
    with torch.no_grad():
        model(images())
    model.prompter.after_step()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_largest_keeps_by_rank_and_at_least_so_many():
    scores = torch.tensor([[3.0, 1.0, 2.0, 0.0], [0.0, 5.0, 4.0, 9.0]])
    assert largest(scores, 0.5, 1).tolist() == [
        [True, False, True, False], [False, True, False, True]
    ]
    assert largest(scores, 0.9, 3).sum(1).tolist() == [3, 3]
    assert largest(scores, 0.0, 1).all()
    assert largest(torch.zeros(4), 0.5, 1).tolist() == [False, False, True, True]


def test_pruning_at_its_share_of_the_run():
    model = build_wide(CFG, out_type='featmap').train()
    prompter, forgotten = model.prompter, []
    step(model)
    assert prompter.token_scores.any()
    assert prompter.after_epoch(training(1)) == ''
    assert not prompter.token_scores.any() and not prompter.pruned
    step(model)
    tokens, segments = prompter.token_scores.clone(), prompter.segment_scores.clone()
    line = prompter.after_epoch(training(2, forget=forgotten.append))
    assert 'kept 2 of 4 tokens and 8 of 16 segments' in line
    assert prompter.token_mask.tolist() == (tokens > tokens.sort().values[1]).tolist()
    for kept, scores in zip(prompter.segment_mask, segments, strict=True):
        assert kept.tolist() == (scores > scores.sort().values[7]).tolist()
    assert [id(p) for p in forgotten] == [id(p) for p in prompter.parameters()]
    for name, parameter in prompter.named_parameters():
        assert torch.equal(parameter, getattr(prompter, f'start_{name}'))
    # Once: later steps collect nothing, and what is pruned gets no gradient.
    before = {k: v.clone() for k, v in prompter.state_dict().items()}
    step(model)
    gone = ~prompter._mask()
    assert not prompter.prompts.grad[:, gone].any()
    assert prompter.prompts.grad[:, ~gone].ne(0).all()
    assert prompter.after_epoch(training(3, forget=forgotten.append)) == ''
    assert len(forgotten) == 2
    assert all(torch.equal(v, before[k]) for k, v in prompter.state_dict().items())


@pytest.mark.parametrize(('epochs', 'want'), [(5, 3), (4, 2), (2, 1), (1, None)])
def test_the_pass_after_which_it_prunes(epochs, want):
    prompter = build_wide(CFG).prompter
    lines = [prompter.after_epoch(training(epoch, epochs)) for epoch in range(1, epochs + 1)]
    pruned = [number for number, line in enumerate(lines, 1) if line.startswith('kept')]
    assert pruned == ([] if want is None else [want])
    assert lines[-1].startswith('not pruned') == (want is None)


def test_frozen_prompts_are_not_pruned():
    model = build_wide(CFG, tune='nothing').train()
    assert model.prompter.after_epoch(training(3)) == '' and not model.prompter.pruned


def test_a_step_that_overflows_is_not_scored():
    prompter = build_wide(CFG).prompter
    before = prompter.segment_scores.clone()
    prompter._add_scores(torch.full_like(prompter.prompts, math.inf))
    assert torch.equal(prompter.segment_scores, before)
