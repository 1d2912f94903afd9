"""Policies that choose the block a prompt moves to, for PRO-VPT.

A policy has buffers only: no optimizer of a run trains it, and its state dict holds all it knows.
It computes on the CPU. Shapes: K blocks, 3 K numbers of a state.
"""

from typing import Iterator

import numpy as np
import torch
from torch import Tensor, nn


class RandomPolicy(nn.Module):
    """Every block with the same probability.

    Args:
        blocks: K.
    """

    def __init__(self, blocks: int):
        super().__init__()
        self.blocks = blocks

    def choose(self, state: Tensor, rng: np.random.Generator) -> int:
        """Choose one of the K blocks, from 0, in ``state`` (3 K,)."""
        return int(rng.integers(self.blocks))

    def learn(self, choice: int, reward: float) -> None:
        """Take the reward of the last choice."""


class ThompsonPolicy(RandomPolicy):
    """Thompson sampling: the block with the largest draw from Beta(successes + 1, failures + 1).

    Attributes:
        outcomes (Tensor): (2, K), number of positive rewards of each block and of others.
    """

    def __init__(self, blocks: int):
        super().__init__(blocks)
        self.register_buffer('outcomes', torch.zeros(2, blocks, dtype=torch.long))

    def choose(self, state: Tensor, rng: np.random.Generator) -> int:
        """As :meth:`RandomPolicy.choose`; the state is not read."""
        successes, failures = self.outcomes.cpu().numpy()
        return int(rng.beta(successes + 1, failures + 1).argmax())

    def learn(self, choice: int, reward: float) -> None:
        """Count a success if the reward is positive, else a failure."""
        self.outcomes[0 if reward > 0 else 1, choice] += 1


class PPOPolicy(RandomPolicy):
    """Proximal policy optimisation, with the sizes and rates of PRO-VPT's code.

    Actor and critic are MLPs 3 K - 64 - 64 - K (softmax) and 3 K - 64 - 64 - 1 (tanh). After
    every second reward both take 60 steps of Adam on the last two rewards. Returns are sums of
    rewards (gamma 1) and are not normalised (ours).

    Attributes:
        weights (Tensor): Of actor and critic, U(-v, v), v = 1 / sqrt(inputs of the layer).
        moments (Tensor): (2, weights), of Adam.
        updates (Tensor): Number of Adam's steps.
        asked (Tensor): (3 K + 2,), the last state, choice and logarithm of its probability.
        memory (Tensor): (2, 3 K + 3), these and their rewards.
        stored (Tensor): Number of rows of the memory in use.
    """

    HIDDEN, CLIP, UPDATES, EVERY = 64, 0.2, 60, 2
    RATES, BETAS, EPSILON = (3e-4, 1e-3), (0.9, 0.999), 1e-8
    OF_VALUE, OF_ENTROPY = 0.5, 0.01

    def __init__(self, blocks: int):
        super().__init__(blocks)
        weights = torch.cat([
            torch.empty((inputs + 1) * outputs).uniform_(-(inputs**-0.5), inputs**-0.5)
            for last in (blocks, 1)
            for inputs, outputs in self._layers(last)
        ])
        self.register_buffer('weights', weights)
        self.register_buffer('moments', torch.zeros(2, len(weights)))
        self.register_buffer('updates', torch.tensor(0))
        self.register_buffer('asked', torch.zeros(3 * blocks + 2))
        self.register_buffer('memory', torch.zeros(self.EVERY, 3 * blocks + 3))
        self.register_buffer('stored', torch.tensor(0))

    def _layers(self, last: int) -> Iterator[tuple]:
        sizes = (3 * self.blocks, self.HIDDEN, self.HIDDEN, last)
        return zip(sizes[:-1], sizes[1:], strict=True)

    def evaluate(self, weights: Tensor, states: Tensor) -> tuple:
        """Logarithms of probabilities (..., K) and values (...) of states (..., 3 K)."""
        found = []
        for last in (self.blocks, 1):
            x = states
            for i, (inputs, outputs) in enumerate(self._layers(last)):
                matrix, bias, weights = weights.split(
                    (inputs * outputs, outputs, len(weights) - (inputs + 1) * outputs)
                )
                x = (x if i == 0 else x.tanh()) @ matrix.view(outputs, inputs).T + bias
            found.append(x)
        return found[0].log_softmax(dim=-1), found[1].squeeze(-1)

    def choose(self, state: Tensor, rng: np.random.Generator) -> int:
        """As :meth:`RandomPolicy.choose`, drawn from the actor's probabilities."""
        state = state.to(self.weights.dtype).cpu()
        logarithms, _ = self.evaluate(self.weights.cpu(), state)
        shares = logarithms.double().exp().numpy()
        choice = int(rng.choice(self.blocks, p=shares / shares.sum()))
        self.asked.copy_(torch.cat((state, state.new_tensor([choice, logarithms[choice]]))))
        return choice

    def learn(self, choice: int, reward: float) -> None:
        """Keep the reward; after every second one, update actor and critic."""
        row = int(self.stored)
        self.memory[row, :-1] = self.asked
        self.memory[row, -1] = reward
        self.stored.fill_((row + 1) % self.EVERY)
        if row + 1 == self.EVERY:
            self._update(self.memory.cpu())

    def loss(self, weights: Tensor, memory: Tensor) -> Tensor:
        """PPO's clipped loss, the critic's error and the entropy."""
        states, (choices, before, rewards) = memory[:, :-3], memory[:, -3:].T
        returns = rewards.flip(0).cumsum(0).flip(0)
        logarithms, values = self.evaluate(weights, states)
        ratios = (logarithms.gather(1, choices.long()[:, None])[:, 0] - before).exp()
        advantages = returns - values.detach()
        clipped = ratios.clamp(1 - self.CLIP, 1 + self.CLIP)
        gains = torch.minimum(ratios * advantages, clipped * advantages)
        entropies = -(logarithms.exp() * logarithms).sum(dim=1)
        errors = (values - returns).square()
        return (self.OF_VALUE * errors - gains - self.OF_ENTROPY * entropies).mean()

    def _update(self, memory: Tensor) -> None:
        weights, (first, second) = self.weights.detach().cpu(), self.moments.cpu()
        of_actor = sum((inputs + 1) * outputs for inputs, outputs in self._layers(self.blocks))
        rates = torch.full_like(weights, self.RATES[1])
        rates[:of_actor] = self.RATES[0]
        done = int(self.updates)
        for step in range(done + 1, done + 1 + self.UPDATES):
            with torch.enable_grad():
                weights = weights.requires_grad_()
                (gradient,) = torch.autograd.grad(self.loss(weights, memory), weights)
            first = self.BETAS[0] * first + (1 - self.BETAS[0]) * gradient
            second = self.BETAS[1] * second + (1 - self.BETAS[1]) * gradient.square()
            size = (second / (1 - self.BETAS[1] ** step)).sqrt() + self.EPSILON
            change = rates * first / (1 - self.BETAS[0] ** step) / size
            weights = weights.detach() - change
        self.weights.copy_(weights)
        self.moments.copy_(torch.stack((first, second)))
        self.updates.fill_(done + self.UPDATES)


POLICIES = {'thompson': ThompsonPolicy, 'ppo': PPOPolicy, 'random': RandomPolicy}
