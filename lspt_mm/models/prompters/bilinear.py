"""Bilinear Prompt Tuning (BPT, arXiv 2506.22908)."""

from typing import Iterable, Optional, Tuple

import torch
from torch import Tensor, nn

from lspt_mm.models.prompters.base import Prompter
from lspt_mm.models.prompters.whitening import check_linear_logits, whiten
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_bool, check_choice, check_int, check_number


@PROMPTERS.register_module()
class BilinearPrompt(Prompter):
    r"""Prompts that are a product of two matrices, to reduce the burstiness of attention logits.

    With :math:`\tilde X = W_q W_k^T X^T` over the patch tokens X of some training images, after the
    block's first norm, as in attention (the paper does not say):

    .. math::
        & S = \tfrac1n \tilde X \tilde X^T = U \operatorname{diag}(s) U^T, \quad
          W = U \operatorname{diag}(s)^{-1/2} U^T \\
        & \text{fWhiten, tWhiten:}\quad P' = P W^T \qquad \text{bilinear:}\quad P' = A B^T

    W is computed before the first iteration (``PromptInitHook``) and stored in checkpoints. As in
    VPT, the outputs of deep prompts are not read. The authors' code takes the mean of X over the
    images first and divides by D instead of n, so its prompts start larger.

    Args:
        num_tokens (int): P; any number.
        rank (int, optional): p, 1 to D; for 'bilinear' only, where it is required. The paper's:
            75 of P = 100 (shallow), 50 of P = 50 (deep).
        deep (bool): New prompts in every block, with their own factors (and W).
        mode (str): ``'bilinear'``, ``'fwhiten'`` (W fixed) or ``'twhiten'`` (W trained as well).
        start (str): Initialisation of B: ``'xavier'`` (uniform; the choice between the two Xavier
            forms is ours) or ``'whiten'``: each row has p entries of W's row, from random columns.
            The other modes always start from W.
        start_block (int): First block with prompts, from 1.
        dropout (float): On inserted prompts, one mask per step.
        trained_right (int): In deep mode, the number of last blocks whose right factors are
            trained; the others keep their initial values (the paper's: 4).
        epsilon (float): Added to the variances s, in units of their mean (ours).

    Attributes:
        left (Parameter): A, or P of the whitening modes: (K, P, p), from N(0, 0.02^2). K = 1 for
            shallow, L' for deep; p = D in the whitening modes.
        right (Tensor): B, or W: (K, D, p). Concatenated from the buffer ``right_fixed`` and the
            parameter ``right_tuned``; prompts = left @ right^T.

    Parameters in all: K P p, and T D p for the trained right factors, T = 1 for shallow,
    min(``trained_right``, L') for deep and 0 for 'fwhiten'.
    """

    TRAINING_ONLY = ('dropout', 'start', 'epsilon')

    def __init__(
        self,
        num_tokens: int,
        rank: Optional[int] = None,
        deep: bool = False,
        mode: str = 'bilinear',
        start: str = 'xavier',
        start_block: int = 1,
        dropout: float = 0.0,
        trained_right: int = 4,
        epsilon: float = 1e-6,
        **vit,
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        check_bool('deep', deep)
        check_choice('mode', mode, ('bilinear', 'fwhiten', 'twhiten'))
        check_choice('start', start, ('xavier', 'whiten'))
        check_int('trained_right', trained_right, 1)
        check_number('epsilon', epsilon)
        if not epsilon >= 1e-12:
            # Eigenvalues are exact to about 1e-16 of the largest: below this, W would only amplify
            # rounding errors.
            raise ValueError(f'epsilon={epsilon!r}: expected a number of at least 1e-12')
        if mode == 'bilinear':
            check_int('rank', rank, 1, self.embed_dims)
        elif rank is not None:
            raise ValueError(f"rank={rank!r}: only with mode='bilinear'; W is square")
        self.deep = deep
        self.mode = mode
        self.epsilon = epsilon
        self.from_data = mode != 'bilinear' or start == 'whiten'

        columns = rank if mode == 'bilinear' else self.embed_dims  # p
        sets = self.num_prompted if deep else 1  # K
        tuned = 0 if mode == 'fwhiten' else min(trained_right, sets)  # T
        self.left = nn.Parameter(0.02 * torch.randn(sets, num_tokens, columns))
        right = torch.empty(sets, self.embed_dims, columns)
        for one in right:
            nn.init.xavier_uniform_(one)
        fixed = right[: sets - tuned].clone() if tuned < sets else None
        self.register_buffer('right_fixed', fixed)
        self.right_tuned = nn.Parameter(right[sets - tuned :].clone()) if tuned else None
        # In the state dict, so that resuming or testing does not initialise again.
        self.register_buffer('prepared', torch.tensor(False) if self.from_data else None)

    @property
    def right(self) -> Tensor:
        """B, or W, of all blocks, (K, D, p)."""
        parts = [part for part in (self.right_fixed, self.right_tuned) if part is not None]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def check_vit(self, vit: nn.Module) -> None:
        """Also raise ValueError if W must be computed and logits are not linear in W_q and W_k."""
        super().check_vit(vit)
        blocks = range(self.start_block, self.start_block + len(self.left) * self.from_data)
        check_linear_logits(
            vit, blocks, 'BilinearPrompt cannot whiten', "start='xavier', or another ViT"
        )

    @property
    def needs_preparation(self) -> bool:  # noqa: D102
        return self.from_data and not bool(self.prepared)

    @torch.no_grad()
    def prepare(self, vit: nn.Module, batches: Iterable[Tensor]) -> str:
        """Compute W of each block and initialise the right factors from it."""
        if not self.from_data:
            super().prepare(vit, batches)
        blocks = [self.start_block + i for i in range(self.left.size(0))]
        weak = []
        images = (images for images, _ in batches)
        for i, whitening in enumerate(whiten(vit, images, blocks, self.epsilon).values()):
            self._right_of(i).copy_(self._columns(whitening.matrix))
            weak.append(whitening.weak)
        self.prepared.fill_(True)
        return (
            f'whitening of {"blocks" if self.deep else "block"} '
            f'{", ".join(map(str, blocks))} from {whitening.tokens} patch tokens; directions '
            f'too weak to be whitened, of {self.embed_dims}: {", ".join(map(str, weak))}'
        )

    def _right_of(self, i: int) -> Tensor:
        """The stored right factor of the i-th prompted block, (D, p)."""
        fixed = 0 if self.right_fixed is None else self.right_fixed.size(0)
        return self.right_fixed[i] if i < fixed else self.right_tuned[i - fixed]

    def _columns(self, matrix: Tensor) -> Tensor:
        """W (D, D) itself, or for 'bilinear' p random columns of each row, (D, p)."""
        if self.mode != 'bilinear':
            return matrix
        # On the CPU, so that a seed gives the same on every device.
        chosen = torch.rand(matrix.shape).argsort(dim=1)[:, : self.left.size(-1)]
        return matrix.gather(1, chosen.to(matrix.device))

    def precompute(self) -> Tensor:
        """P' = left @ right^T of all blocks, (K, P, D)."""
        return self.left @ self.right.transpose(1, 2)

    def first(self, patches: Tensor, grid: Tuple[int, int]) -> Tuple[Tensor, Tensor]:
        """The first block's P', and all of them, computed once for the batch."""
        prompts = self.drop(self.precompute() if self.fused is None else self.fused)
        return prompts[:1], prompts

    def reads_output(self, l: int) -> bool:
        """Shallow prompts are carried from block to block, deep ones discarded."""
        return not self.deep

    def input_independent(self, l: int) -> bool:
        """Deep blocks have their own prompts."""
        return self.deep or l == self.start_block

    def next(
        self, l: int, prompts_in: Tensor, prompts_out: Optional[Tensor], patches: Tensor, state
    ) -> Tuple[Tensor, Tensor]:
        """The next block's own prompts (deep), or the outputs of block l (shallow)."""
        if not self.deep:
            return prompts_out, state
        step = l - self.start_block + 1
        return state[step : step + 1], state
