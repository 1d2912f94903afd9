"""PRO-VPT: which prompt moves, where, what its policy learns, and runs taken up in the middle."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from test_prompt_pool import small, step, toy_loss, weights_of
from torch import nn

from lspt_mm.models import CondensedPrompt
from lspt_mm.models.prompters.base import Training

POLICIES = ['thompson', 'ppo', 'random']


class Told(nn.Module):
    """A policy that chooses what it is told, and notes what it is asked."""

    def __init__(self, *choices):
        super().__init__()
        self.choices, self.states, self.rewards = list(choices), [], []

    def choose(self, state, rng):
        self.states.append(state)
        return self.choices.pop(0)

    def learn(self, choice, reward):
        self.rewards.append((choice, reward))


def passed(prompter, scores, epoch, loss=1.0, num_epochs=10, scale=1.0):
    """The end of a pass of one step with these scores; the line, and rows that were forgotten."""
    prompter.scores.copy_(torch.as_tensor(scores))
    prompter.steps.fill_(1)
    forgotten = []
    training = Training(epoch, num_epochs, loss, lambda *args: forgotten.append(args), scale)
    return prompter.after_epoch(training), forgotten


def test_the_prompt_with_the_largest_score_moves():
    prompter = small(shrink=0.25)
    prompter.policy = Told(2)
    before = prompter.prompts.detach().clone()
    line, forgotten = passed(prompter, [0.5, -3, 0.7, 0.1, -1, 0], 1)
    assert line == 'prompt 2 moved from block 2 to block 3 (score 0.7)'
    assert prompter.block.tolist() == [1, 1, 3, 2, 3, 3]
    before[2] *= 0.25
    assert torch.equal(prompter.prompts, before)
    ((parameter, row),) = forgotten
    assert parameter is prompter.prompts and row == 2
    assert prompter.layout() == (2, 1, 3)


def test_state_of_the_policy():
    prompter = small()
    prompter.policy = Told(2)
    passed(prompter, [0.5, -3, 0.7, 0.1, -1, 0], 1)
    sums = np.array([0.5 - 3, 0.7 + 0.1, -1 + 0])
    want = [*(sums - sums.mean()) / sums.std(), 2 / 5, 1 / 5, 2 / 5, 0, 1, 0]
    torch.testing.assert_close(prompter.policy.states[0], torch.tensor(want, dtype=torch.float64))


def test_no_move():
    prompter = small()
    prompter.policy = Told(1)
    before = copy.deepcopy(prompter.state_dict())
    assert 'none has a positive score' in passed(prompter, [-1, -2, -1, 0, -1, -3], 1)[0]
    assert passed(prompter, [1, 2, 3, 4, 5, 6], 10)[0] == ''  # the last pass
    assert passed(prompter, [1, 2, 3, 4, 5, 6], 11)[0] == ''
    for name, value in prompter.state_dict().items():
        assert torch.equal(value, before[name]), name
    line, forgotten = passed(prompter, [0, 0, 0, 2, 0, 0], 2)
    assert line == 'prompt 3 stays in block 2 (score 2)' and not forgotten
    passed(prompter, [-1] * 6, 3)
    assert torch.equal(prompter.prompts, before['prompts']) and not prompter.policy.rewards


def test_rewards():
    prompter = small()
    prompter.policy = Told(0, 1, 0)
    # The gradients of the second pass are 8 times those of the loss.
    passed(prompter, [0, 0, 0, 0.125, 0, 0], 1, loss=2.0)
    passed(prompter, [0, 0, 0, 0, 2, 0], 2, loss=1.5, scale=8.0)
    assert prompter.policy.rewards == [(0, 2.0 - 1.5 - 0.125)]
    passed(prompter, [-1] * 6, 3, loss=1.75)
    assert prompter.policy.rewards[1:] == [(1, 1.5 - 1.75 - 0.25)]
    passed(prompter, [1, 0, 0, 0, 0, 0], 4)  # stays: no reward follows
    passed(prompter, [-1] * 6, 5, loss=math.nan)
    assert len(prompter.policy.rewards) == 2


def test_no_reward_of_a_loss_that_is_not_finite():
    prompter = small()
    prompter.policy = Told(0, 0)
    passed(prompter, [0, 0, 0, 1, 0, 0], 1, loss=math.nan)
    passed(prompter, [0, 0, 0, 0, 1, 0], 2)
    passed(prompter, [-1] * 6, 3, loss=math.inf)
    assert not prompter.policy.rewards


@pytest.mark.parametrize('policy', POLICIES)
def test_moves_conserve_the_prompts(policy):
    prompter = small(policy=policy)
    seen = set()
    for epoch in range(1, 40):
        scores = torch.randn(6, generator=torch.Generator().manual_seed(epoch))
        line, _ = passed(prompter, scores, epoch, loss=1 / epoch, num_epochs=50)
        assert sum(prompter.layout()) == 6 and prompter.block.min() >= 1
        seen.add(prompter.layout())
        assert line
    assert len(seen) > 5
    assert len(prompter.prompts) == 6


@pytest.mark.parametrize('policy', POLICIES)
def test_all_of_a_policy_is_in_buffers(policy):
    prompter = small(policy=policy)
    assert [n for n, _ in prompter.named_parameters()] == ['prompts']
    assert not any(b.requires_grad for b in prompter.buffers())


@pytest.mark.parametrize('policy', POLICIES)
def test_moves_disturb_no_generator(policy):
    prompter = small(policy=policy)
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for epoch in range(1, 6):
        passed(prompter, [1, 2, 3, 1, 1, 1], epoch)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


@pytest.mark.parametrize('policy', POLICIES)
def test_another_seed_moves_otherwise(policy):
    found = set()
    for seed in range(8):
        prompter = small(policy=policy)
        prompter.draws[0] = seed
        for epoch in range(1, 6):
            passed(prompter, [1, 2, 3, 1, 1, 1], epoch)
        found.add(tuple(prompter.block.tolist()))
    assert len(found) > 1


# ---- resume -----------------------------------------------------------------------------------


class Run:
    """Passes of three steps on a linear loss, with all that a checkpoint has."""

    def __init__(self, make):
        self.prompter = make()
        self.optimizer = torch.optim.AdamW([self.prompter.prompts], lr=0.01, weight_decay=0.1)
        self.done, self.loss, self.lines = 0, 0.0, []

    def steps(self, number):
        for _ in range(number):
            self.optimizer.zero_grad()
            self.prompter.before_step()
            loss = toy_loss(self.prompter, weights_of(self.done)).square()
            loss.backward()
            self.optimizer.step()
            self.prompter.after_step()
            self.done += 1
            self.loss += float(loss.detach()) / 3
            if self.done % 3 == 0:
                state = self.optimizer.state

                def forget(parameter, rows=None, state=state):
                    if rows is None:
                        state.pop(parameter, None)
                    else:
                        state[parameter]['exp_avg'][rows] = 0

                training = Training(self.done // 3, 8, self.loss, forget)
                self.lines.append(self.prompter.after_epoch(training))
                self.loss = 0.0

    def taken_up(self, make):
        file = io.BytesIO()
        held = (self.prompter.state_dict(), self.optimizer.state_dict(), self.done, self.loss)
        torch.save(held, file)
        file.seek(0)
        torch.manual_seed(99)
        other = Run(make)
        state, moments, other.done, other.loss = torch.load(file, weights_only=True)
        other.prompter.load_state_dict(state)
        other.optimizer.load_state_dict(moments)
        other.lines = list(self.lines)
        return other


MAKE = {
    **{name: (lambda name=name: small(policy=name)) for name in POLICIES},
    'condensed': lambda: small(CondensedPrompt, keep=0.5),
}


@pytest.mark.parametrize('at', [1, 4, 6, 11, 13, 20])
@pytest.mark.parametrize('name', MAKE)
def test_taken_up_in_the_middle_of_a_pass(name, at):
    whole = Run(MAKE[name])
    whole.steps(24)
    broken = Run(MAKE[name])
    broken.steps(at)
    other = broken.taken_up(MAKE[name])
    other.steps(24 - at)
    assert other.lines == whole.lines
    assert sum(' moved ' in line or 'kept' in line for line in whole.lines) >= 1
    want = whole.prompter.state_dict()
    assert all(torch.equal(v, want[k]) for k, v in other.prompter.state_dict().items())


def test_scores_of_a_step_are_those_before_the_optimizer_moves():
    run = Run(MAKE['thompson'])
    before = run.prompter.prompts.detach().clone().requires_grad_()
    run.steps(1)
    loss = (before * weights_of(0)).sum().square()
    (gradient,) = torch.autograd.grad(loss, before)
    torch.testing.assert_close(run.prompter.scores, (before * gradient).sum(1).detach())
    step(run.prompter, weights_of(1))
    assert int(run.prompter.steps) == 2
