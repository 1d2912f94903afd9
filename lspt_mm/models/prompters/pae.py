"""Visual prompt-agnostic evolution (PAE, arXiv 2601.20232)."""

from typing import Dict, List, Optional

import torch
from torch import Tensor, nn

from lspt_mm.models.observed import Observed
from lspt_mm.models.prompters.base import Prompter
from lspt_mm.models.prompters.frequency_bands import band_prompts
from lspt_mm.models.prompters.prompt_pool import PromptPool
from lspt_mm.models.prompters.vpt import VPT
from lspt_mm.models.prompters.wrapped import WrappedPrompter, without_dropout
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_choice, check_int, check_number


@PROMPTERS.register_module()
class PAE(WrappedPrompter):
    r"""Adds to a deep prompt method a loss that ties the prompts of all blocks together.

    With the prompts :math:`P_l` of block l before dropout and :math:`z_l = P_l U`:

    .. math::
        L = L_\text{head}
        + \frac{w_k}{P K} \sum_l \lVert z_l A - z_{l+1} \rVert^2
        + w_s \sum_l \max(0, V(z_{l+1}) - V(z_l)), \qquad
        V(z) = \frac1P \operatorname{tr}(z R^T R z^T)

    U is random and fixed. A, R and U have no part in the forward pass. The first mean is that of
    the authors' code; the mean over prompts in V is ours, so that no weight depends on P. The sums
    run over all pairs of blocks. In the authors' code the first block is left out, and V takes the
    predicted :math:`z_l A`, with norms clipped and a tanh. A further linear layer there never gets
    a gradient, which stops distributed training; here there is none.

    Args:
        num_tokens (int): P of the other method.
        prompter (dict): The other method, ``dict(type=..., **arguments)`` without the arguments
            that stand here. Its prompts must be the same for all images and new in every block:
            VPT, BilinearPrompt, SelfPrompt and FourierPrompt with ``deep=True``, or DAVPT.
        width (int): K, at least 1. The paper's: 256.
        koopman_weight (float): :math:`w_k`, at least 0. The paper's: 0.5.
        stability_weight (float): :math:`w_s`, at least 0. The paper's: 0.2.
        start (str): ``'own'``: the other method's start. ``'mpa'``: from frequency bands of
            training images (:func:`band_prompts`), for VPT only.
        dropout (float): Of the other method.
        start_block (int): First block with prompts, from 1.

    Attributes:
        prompter (Prompter): The other method.
        transition (Parameter): A, (K, K), start I; None with one block, as the following.
        stability (Parameter): R, (K, K), start I.
        projection (Tensor): U, (D, K), N(0, 1 / K) (ours).
        prepared (Tensor): Whether the start from bands is done; None with ``start='own'``.

    Parameters in all: the other method's, and 2 K^2 in training.
    """

    TRAINING_ONLY = ('dropout', 'koopman_weight', 'stability_weight', 'start')
    TRAINING_STATE = ('transition', 'stability', 'projection', 'prepared')

    def __init__(
        self,
        num_tokens: int,
        prompter: dict,
        width: int = 256,
        koopman_weight: float = 0.5,
        stability_weight: float = 0.2,
        start: str = 'own',
        dropout: float = 0.0,
        start_block: int = 1,
        **vit,
    ):
        super().__init__(num_tokens, prompter, dropout, start_block, **vit)
        check_int('width', width, 1)
        check_number('koopman_weight', koopman_weight, 0)
        check_number('stability_weight', stability_weight, 0)
        check_choice('start', start, ('own', 'mpa'))
        self.koopman_weight, self.stability_weight = koopman_weight, stability_weight
        self.start = start
        self._check_prompts()
        if start == 'mpa' and (
            type(self.prompter) is not VPT or self.prompter.projection is not None
        ):
            raise ValueError(
                f"start='mpa': expected prompter=dict(type='VPT', deep=True) without project, "
                f'not {prompter!r}'
            )
        self.transition = self.stability = None
        several = self.num_prompted > 1
        if several:
            self.transition = nn.Parameter(torch.eye(width))
            self.stability = nn.Parameter(torch.eye(width))
        projection = torch.randn(self.embed_dims, width) * width**-0.5 if several else None
        self.register_buffer('projection', projection)
        # In the state dict, so that resuming or testing does not start again.
        self.register_buffer('prepared', torch.tensor(False) if start == 'mpa' else None)

    def _check_prompts(self) -> None:
        """Raise ValueError unless every block has prompts of its own, as many as the others."""
        blocks = range(self.start_block, self.num_layers + 1)
        inner = self.prompter
        independent = all(map(inner.input_independent, blocks))
        if not independent or any(map(inner.reads_output, blocks[:-1])):
            why = 'has prompts that depend on the image or on the block before'
        elif any(p is None or p.shape != (1, self.num_tokens, self.embed_dims)
                 for p in self.deep_prompts()):
            why = f'has blocks with other than {self.num_tokens} prompts'
        elif isinstance(inner, PromptPool):
            why = 'moves or drops prompts in training'
        else:
            return
        raise ValueError(
            f'PAE: {type(inner).__name__} as it is configured {why}; expected a method with '
            "prompts of its own in every block, such as dict(type='VPT', deep=True)"
        )

    def deep_prompts(self) -> List[Optional[Tensor]]:
        """The other method's prompts of all blocks without dropout, (1, P, D) each."""
        plain = without_dropout(self.prompter)
        # Only their shape and type matter.
        patches = next(plain.parameters()).new_zeros(1, 1, self.embed_dims)
        prompts, state = plain.first(patches, (1, 1))
        found = [prompts]
        for number in range(self.start_block, self.num_layers):
            prompts, state = plain.next(number, prompts, None, patches, state)
            found.append(prompts)
        return found

    def losses(
        self, vit: nn.Module, observed: Observed, labels: Optional[Tensor]
    ) -> Dict[str, Tensor]:
        """Of the two sums; they depend on the parameters alone."""
        found = super().losses(vit, observed, labels)
        if self.transition is None:
            return found
        z = torch.cat(self.deep_prompts()) @ self.projection  # (L', P, K)
        errors = (z[:-1] @ self.transition - z[1:]).square().mean(dim=(1, 2))
        energy = (z @ self.stability.T).square().sum(-1).mean(-1)  # V, (L',)
        found['koopman'] = self.koopman_weight * errors.sum()
        found['stability'] = self.stability_weight * (energy[1:] - energy[:-1]).relu().sum()
        return found

    @property
    def needs_preparation(self) -> bool:  # noqa: D102
        own = self.prepared is not None and not bool(self.prepared)
        return own or super().needs_preparation

    @torch.no_grad()
    def prepare(self, vit: nn.Module, batches) -> str:
        """Start the prompts from frequency bands."""
        if self.prepared is None:
            return Prompter.prepare(self, vit, batches)
        images = [img for img, _ in batches]
        if not images:
            raise ValueError('PAE: there is no image to start from')
        prompts, report = band_prompts(vit, torch.cat(images), self.num_tokens, self.start_block)
        self.prompter.prompts.copy_(prompts)
        self.prepared.fill_(True)
        return report
