"""PRO-VPT: prompts that move between blocks during training (PRO-VPT, arXiv 2503.06901)."""

import math

import numpy as np
import torch
from torch import Tensor

from lspt_mm.models.prompters.base import Training
from lspt_mm.models.prompters.prompt_pool import PromptPool
from lspt_mm.models.prompters.relocation_policies import POLICIES
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_choice, check_share


@PROMPTERS.register_module()
class PROVPT(PromptPool):
    r"""Deep prompts; after each pass but the last, one of them may move to another block.

    With the mean :math:`I_i` over the pass of the score of :class:`PromptPool`, in which the
    loss was :math:`\mathcal L_e`:

    .. math::
        & i = \arg\max_j I_j, \quad \text{if } I_i > 0: \quad
          p_i \leftarrow \text{shrink} \cdot p_i, \quad
          \text{block}_i \leftarrow a \sim \pi(s) \\
        & s = [\text{sums of } I \text{ by block, standardised}; \;
          \text{shares of the other prompts by block}; \; \text{one-hot of the old block}] \\
        & r = \mathcal L_e - \mathcal L_{e+1} - I_i

    s has 3 L' numbers; r is the reward of the policy :math:`\pi` after the next pass. A choice of
    the old block changes nothing, and the policy learns nothing from it (ours). A block may lose
    all its prompts.

    The paper's policy is PPO. Ours is Thompson sampling by default, the authors' alternative: a
    run makes one decision in a pass, too few for two networks of some 14,000 weights together.
    The paper's code spends an extra pass over the training set on the scores; here the ordinary
    steps give them, dropout included in both. There the prompts are absent from the state dict
    and from distributed training, and a moved prompt keeps its momentum; here they are one
    parameter, and this momentum becomes 0. The reward takes the mean losses of passes; the code
    divides them by the batch size again.

    The paper trains with SGD (momentum 0.9), a constant rate and gradients clipped at norm 0.25.
    Its figures are for supervised ViTs only.

    Args:
        num_tokens (int): P, the number of prompts of each block at the start. The paper's: 20.
        policy (str): 'thompson', 'ppo' or 'random' (all blocks alike).
        shrink (float): Factor of a moved prompt, in [0, 1). The paper's: 1e-3.
        dropout (float): On inserted prompts. The paper's: 0.1.
        start_block (int): First block with prompts, from 1.

    Attributes:
        policy (Module): Of :mod:`~lspt_mm.models.prompters.relocation_policies`, buffers only.
        draws (Tensor): Seed and number of the policy's random draws, which are apart from
            PyTorch's generator.
        move (Tensor): Choice that has no reward yet (-1: none), its :math:`I_i` and loss.

    Parameters in all: L' P D.
    """

    TRAINING_ONLY = ('dropout', 'shrink')

    def __init__(
        self,
        num_tokens: int,
        policy: str = 'thompson',
        shrink: float = 1e-3,
        dropout: float = 0.0,
        start_block: int = 1,
        **vit,
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        check_choice('policy', policy, POLICIES)
        check_share('shrink', shrink)
        self.shrink = shrink
        self.policy = POLICIES[policy](self.num_prompted)
        draws = torch.randint(2**31, (2,))
        draws[1] = 0
        self.register_buffer('draws', draws)
        self.register_buffer('move', torch.tensor([-1.0, 0.0, 0.0]))

    @torch.no_grad()
    def after_epoch(self, training: Training) -> str:
        """Give the policy its reward, and move a prompt."""
        scores = self.take_scores() / training.scale
        self._reward(training.loss)
        if training.epoch >= training.num_epochs:
            return ''
        i = int(scores.argmax())
        score, old = float(scores[i]), int(self.block[i])
        if not score > 0:
            return 'no prompt moved: none has a positive score'
        rng = np.random.default_rng(self.draws.tolist())
        self.draws[1] += 1
        choice = self.policy.choose(self.state_of(scores, i), rng)
        new = choice + self.start_block
        if new == old:
            return f'prompt {i} stays in block {old} (score {score:.3g})'
        self.block[i] = new
        self.prompts[i] *= self.shrink
        training.forget(self.prompts, i)
        self.move.copy_(torch.tensor([choice, score, training.loss]))
        return f'prompt {i} moved from block {old} to block {new} (score {score:.3g})'

    def _reward(self, loss: float) -> None:
        choice, score, before = self.move.tolist()
        reward = before - loss - score
        if choice >= 0 and math.isfinite(reward):
            self.policy.learn(int(choice), reward)
        self.move[0] = -1

    def state_of(self, scores: Tensor, i: int) -> Tensor:
        """The state s for a move of prompt i, (3 L',)."""
        steps = (self.block - self.start_block).cpu()
        sums = torch.zeros(self.num_prompted, dtype=torch.float64)
        sums.index_add_(0, steps, scores.double().cpu())
        deviation = sums.std(unbiased=False)
        sums = (sums - sums.mean()) / deviation if deviation > 0 else torch.zeros_like(sums)
        others = torch.cat((steps[:i], steps[i + 1 :])).bincount(minlength=self.num_prompted)
        old = torch.zeros(self.num_prompted)
        old[steps[i]] = 1
        return torch.cat((sums, others / others.sum().clamp(min=1), old))
