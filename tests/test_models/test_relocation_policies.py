"""The policies of PRO-VPT: what they draw and what they learn, against literal re-writings."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from lspt_mm.models.prompters.relocation_policies import POLICIES, PPOPolicy, ThompsonPolicy

K = 4


def state_of(seed):
    return torch.randn(3 * K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def networks(policy):
    """Actor and critic as PyTorch's layers, with the policy's weights in their order."""
    found = [
        nn.Sequential(nn.Linear(3 * K, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(),
                      nn.Linear(64, last)).double()
        for last in (K, 1)
    ]
    parameters = [p for one in found for p in one.parameters()]
    sizes = [p.numel() for p in parameters]
    for p, values in zip(parameters, policy.weights.split(sizes), strict=True):
        p.data.copy_(values.view_as(p))
    return found


def ppo():
    torch.manual_seed(0)
    return PPOPolicy(K).double()


def test_thompson_draws_from_beta_distributions():
    policy = ThompsonPolicy(K)
    for choice, reward in [(0, 1.0), (0, 0.2), (1, -1.0), (3, 0.0)]:
        policy.learn(choice, reward)
    assert policy.outcomes.tolist() == [[2, 0, 0, 0], [0, 1, 0, 1]]
    for seed in range(20):
        draws = np.random.default_rng(seed).beta([3, 1, 1, 1], [1, 2, 1, 2])
        assert policy.choose(state_of(0), np.random.default_rng(seed)) == draws.argmax()


def test_ppo_starts_as_pytorchs_layers_do():
    policy = ppo()
    sizes = [(3 * K, 64), (64, 64), (64, K), (3 * K, 64), (64, 64), (64, 1)]
    assert len(policy.weights) == sum((a + 1) * b for a, b in sizes)
    parts = policy.weights.split([(a + 1) * b for a, b in sizes])
    for (inputs, _), part in zip(sizes, parts, strict=True):
        assert 0.9 * inputs**-0.5 < part.abs().max() <= inputs**-0.5
    assert len(PPOPolicy(12).weights) == (36 * 64 + 64) * 2 + (64 * 64 + 64) * 2 + 65 * 13


def test_ppo_chooses_by_the_actors_probabilities():
    policy = ppo()
    actor, critic = networks(policy)
    shares = actor(state_of(0)).softmax(-1).detach()
    logarithms, value = policy.evaluate(policy.weights, state_of(0))
    torch.testing.assert_close(logarithms.exp(), shares)
    torch.testing.assert_close(value, critic(state_of(0))[0])
    draws = [policy.choose(state_of(0), np.random.default_rng(seed)) for seed in range(2000)]
    # Six standard deviations of 2,000 draws are at most 0.07.
    np.testing.assert_allclose(np.bincount(draws, minlength=K) / 2000, shares, atol=0.07)
    torch.testing.assert_close(policy.asked[-1], logarithms[draws[-1]])


def test_ppo_updates_after_every_second_reward():
    policy = ppo()
    actor, critic = networks(policy)
    old = [copy.deepcopy(one) for one in (actor, critic)]
    optimizer = torch.optim.Adam([
        {'params': actor.parameters(), 'lr': 3e-4}, {'params': critic.parameters(), 'lr': 1e-3}
    ])
    seed = 0
    for _ in range(2):
        states, choices, rewards = [], [], [0.7, -0.3]
        for reward in rewards:
            before = policy.weights.clone()
            states.append(state_of(seed))
            choices.append(policy.choose(states[-1], np.random.default_rng(seed)))
            assert torch.equal(policy.weights, before)
            policy.learn(choices[-1], reward)
            seed += 1
        pairs = list(zip(states, choices, strict=True))
        behaved = [actor(s).log_softmax(-1)[c].detach() for s, c in pairs]
        returns = [rewards[0] + rewards[1], rewards[1]]
        for _ in range(60):
            total = 0.0
            for s, c, logarithm, wanted in zip(states, choices, behaved, returns, strict=True):
                shares, value = actor(s).softmax(-1), critic(s)[0]
                ratio = shares[c] / logarithm.exp()
                advantage = wanted - float(value.detach())
                now = float(ratio.detach())
                bounded = min(max(now, 0.8), 1.2)
                clipped = ratio if bounded == now else bounded
                gain = min(ratio * advantage, clipped * advantage)
                entropy = -(shares * shares.log()).sum()
                total = total + (-gain + 0.5 * (value - wanted) ** 2 - 0.01 * entropy) / 2
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        want = torch.cat([p.flatten() for one in (actor, critic) for p in one.parameters()])
        torch.testing.assert_close(policy.weights, want, rtol=1e-7, atol=1e-9)
    assert int(policy.updates) == 120
    assert not torch.equal(old[0][0].weight, actor[0].weight)


@pytest.mark.parametrize('name', ['thompson', pytest.param('ppo', marks=pytest.mark.slow)])
def test_the_best_block_is_found(name):
    torch.manual_seed(0)
    policy = POLICIES[name](K)
    chosen = []
    for trial in range(200):
        choice = policy.choose(state_of(0), np.random.default_rng(trial))
        policy.learn(choice, 1.0 if choice == 2 else -1.0)
        chosen.append(choice)
    assert chosen[:100].count(2) < chosen[100:].count(2) > 90
