"""Long-term Spatial Prompt Tuning (LSPT, arXiv 2402.17406)."""

from typing import Iterable, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.models.prompters.base import Prompter, vpt_uniform
from lspt_mm.models.prompters.lstm_cells import DiagonalCell, FullCell, LowRankCell
from lspt_mm.models.prompters.patch_tokens import mean_patches
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_bool, check_choice, check_int, check_number

#: State between blocks: cell state C (None is zero), the input half of the gates of all steps
#: (L'-1, P, 4D) (None without LPC), and their prompts P^1 .. P^{L'-1} after dropout (L'-1, P, D).
State = Tuple[Optional[Tensor], Optional[Tensor], Tensor]


@PROMPTERS.register_module()
class LSPT(Prompter):
    r"""Prompts with a long-term memory over depth and a global spatial code of the image.

    For block l, with :math:`\hat X_P^l` what the block made of its prompts and :math:`X^l` its
    patch tokens:

    .. math::
        \text{GSPC:}\quad & \hat X_{SP}^l = \hat X_P^l + \tfrac1N \sum_n X_n^l \\
        \text{LPC:}\quad & X_P^l, C^l = \text{LSTM}(P^l, \hat X_{SP}^l, C^{l-1})

    :math:`X_P^l` are the prompts of block l+1 and :math:`P^l` is learnable. The single-layer LSTM
    is shared by all blocks and applied to each prompt token separately. Without LPC the next
    prompts are :math:`P^l + \hat X_{SP}^l`; without GSPC :math:`\hat X_{SP}^l = \hat X_P^l`.

    The paper does not specify what enters the first block, C^0, initialisation and dropout: a set
    of prompts of its own, 0, VPT's uniform initialisation and ``forget_bias`` are ours. So are
    ``hidden_norm``, and ``standardize`` and ``own_prompts`` (docs/lspt_study.md), with m_l and d_l
    the mean and deviation of the mean patch over training images, and s_l a scalar from 0 on:

    .. math::
        & \hat X_{SP}^l = \hat X_P^l + \left( \tfrac1N \sum_n X_n^l - m_l \right) / d_l \\
        & H^l, C^l = \text{LSTM}(P^l, \hat X_{SP}^l, C^{l-1}), \qquad X_P^l = P^l + s_l H^l

    Args:
        num_tokens (int): P, the number of prompts.
        gspc (bool): Global spatial prompt coding.
        lpc (bool): Long-term prompt coding. Without it, the cell's arguments have no effect.
        cell (str): Width of the cell: ``'full'``, ``'low-rank'`` (W = U V) or ``'diagonal'``.
        rank (int): r of the low-rank cell, 1 to D.
        hidden_norm (bool): LayerNorm without parameters on the hidden state. Patch tokens of MAE
            ViTs are large and share a mean that otherwise saturates the gates.
        standardize (bool): Standardise the mean of the patches, most of which is the same for
            all images, by statistics on training images (``PromptInitHook``).
        own_prompts (bool): Add the cell's output, times s_l, to the prompts :math:`P^l` of the
            block, instead of replacing them.
        dropout (float): On the inserted prompts :math:`P^l`, one mask per step for the batch.
        start_block (int): First block with prompts, from 1.
        forget_bias (float): The forget gate's bias at the start.

    Attributes:
        prompts (Parameter): (L', P, D): :math:`P^0`, which enters block ``start_block``, and
            :math:`P^1..P^{L'-1}`, the LSTM's inputs.
        lstm (Module or None): The cell; None without LPC, or where only one block has prompts,
            as no step follows the last block.
        scales (Parameter or None): s, (L'-1,), with ``own_prompts``.
        mean (Tensor): m, (L'-1, D), with ``standardize``.
        deviation (Tensor): d, likewise.

    Parameters in all, with L' > 1: L' P D, and 8 D^2 + 8 D (full), 10 D r + 8 D (low-rank) or
    16 D (diagonal) for the cell, and L'-1 with ``own_prompts``.
    """

    TRAINING_ONLY = ('dropout', 'forget_bias')

    def __init__(
        self,
        num_tokens: int,
        gspc: bool = True,
        lpc: bool = True,
        cell: str = 'full',
        rank: int = 16,
        hidden_norm: bool = False,
        standardize: bool = False,
        own_prompts: bool = False,
        dropout: float = 0.0,
        start_block: int = 1,
        forget_bias: float = 1.0,
        **vit,
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        switches = dict(gspc=gspc, lpc=lpc, hidden_norm=hidden_norm, standardize=standardize)
        for name, value in dict(switches, own_prompts=own_prompts).items():
            check_bool(name, value)
        check_choice('cell', cell, ('full', 'low-rank', 'diagonal'))
        if cell == 'low-rank':
            check_int('rank', rank, 1, self.embed_dims)
        check_number('forget_bias', forget_bias)
        self.gspc = gspc
        self.hidden_norm = hidden_norm
        if standardize and not gspc:
            raise ValueError('standardize=True: there is no mean of the patches with gspc=False')
        self.prompts = vpt_uniform(
            self.num_prompted,
            num_tokens,
            self.embed_dims,
            patch_size=self.patch_size,
            embed_dims=self.embed_dims,
        )
        steps = self.num_prompted - 1
        self.lstm = None
        self.scales = nn.Parameter(torch.zeros(steps)) if own_prompts and steps else None
        self.standardize = standardize and steps > 0
        if self.standardize:
            self.register_buffer('mean', torch.zeros(steps, self.embed_dims))
            self.register_buffer('deviation', torch.ones(steps, self.embed_dims))
            self.register_buffer('prepared', torch.tensor(False))
        # No step follows the last block: a cell there would never get a gradient.
        if lpc and steps > 0:
            self.lstm = self._build_cell(cell, rank, forget_bias)

    def _build_cell(self, cell: str, rank: int, forget_bias: float) -> nn.Module:
        if cell == 'full':
            return FullCell(self.embed_dims, forget_bias)
        if cell == 'low-rank':
            return LowRankCell(self.embed_dims, rank, forget_bias)
        return DiagonalCell(self.embed_dims, forget_bias)

    @property
    def needs_preparation(self) -> bool:
        """True until the statistics of the mean patch are there."""
        return self.standardize and not bool(self.prepared)

    @torch.no_grad()
    def prepare(
        self, vit: nn.Module, batches: Iterable[Tuple[Tensor, Optional[Tensor]]]
    ) -> str:
        """Compute mean and deviation of the mean patch after each block of the plain ViT."""
        blocks = range(self.start_block + 1, self.num_layers + 1)  # what enters block l + 1
        mean, deviation, count = mean_patches(vit, (images for images, _ in batches), blocks)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        self.prepared.fill_(True)
        return f'statistics of the mean patch after {len(blocks)} blocks from {count} images'

    def precompute(self) -> Optional[Tensor]:
        """The input half of all gates, without dropout."""
        return self._gates(self.prompts[1:])

    def _gates(self, inputs: Tensor) -> Optional[Tensor]:
        return None if self.lstm is None else self.lstm.input_gates(inputs)  # (L'-1, P, 4D)

    def first(self, patches: Tensor, grid: Tuple[int, int]) -> Tuple[Tensor, State]:
        """P^0, and the input half of all gates, which is the same for all images."""
        prompts = self.drop(self.prompts)  # (L', P, D)
        gates = self._gates(prompts[1:]) if self.fused is None else self.fused
        return prompts[:1], (None, gates, prompts[1:])

    def next(
        self, l: int, prompts_in: Tensor, prompts_out: Tensor, patches: Tensor, state: State
    ) -> Tuple[Tensor, State]:
        """Apply GSPC, then one LPC step; return X_P^l (B, P, D)."""
        cell, gates, inputs = state
        step = l - self.start_block
        spatial = prompts_out
        if self.gspc:
            spatial = spatial + self.spatial_code(step, prompts_out, patches)
        hidden = F.layer_norm(spatial, spatial.shape[-1:]) if self.hidden_norm else spatial
        prompts = hidden
        if self.lstm is not None:
            prompts, cell = self.lstm(gates[step], hidden, cell)
        if self.scales is not None:
            prompts = inputs[step] + self.scales[step] * prompts
        elif self.lstm is None:
            prompts = inputs[step] + prompts
        return prompts, (cell, gates, inputs)

    def spatial_code(self, step: int, prompts_out: Tensor, patches: Tensor) -> Tensor:
        """What GSPC adds to the outputs at the prompts, (B, 1 or P, D)."""
        mean = patches.mean(dim=1, keepdim=True)
        return (mean - self.mean[step]) / self.deviation[step] if self.standardize else mean
