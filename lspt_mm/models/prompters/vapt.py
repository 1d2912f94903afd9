"""Visual Adaptive Prompt Tuning (VAPT, arXiv 2501.18936)."""

from typing import Tuple

import torch
from torch import Tensor, nn
from torch.compiler import is_exporting
from torch.nn import functional as F

from lspt_mm.models.prompters.base import Prompter, vpt_uniform
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_int


@PROMPTERS.register_module()
class VAPT(Prompter):
    r"""Prompts that each block but the first computes from the patches of the image.

    Block ``start_block`` has learnable prompts. For a later block l with patches :math:`E` on a
    grid of h x w:

    .. math::
        & X = \operatorname{conv}_l(\operatorname{LN}_l(E)), \quad
          G_j = \sum_k \alpha_{l,j,k} X_k + b_{l,j} \\
        & P_l = G + W_2 \operatorname{relu}(W_1 G)

    :math:`\operatorname{conv}_l` has one K x K kernel, shared by all channels, without padding;
    k runs over its h' w' results. :math:`W_1, W_2` are shared by all blocks. The outputs of
    prompts are not read. Two points follow the authors' code: the sum in :math:`P_l`, where the
    paper has only the second term, and b, one number for all channels.

    The authors' code has a grid of 14 x 14. Here the grid is the one of the ViT. For images of
    another size, :math:`\alpha_{l,j}` is resized as a map (bilinear) and divided by the ratio of
    the areas (ours).

    Args:
        num_tokens (int): P.
        kernel_size (int): K, 1 to the shorter side of the grid.
        rank (int): r, the width of the hidden layer; at least 1.
        dropout (float): On the first block's prompts, on channels of X and on the hidden layer.
            The paper's: 0.1.
        start_block (int): First block with prompts, from 1.

    Attributes:
        prompts (Parameter): (1, P, D), VPT's uniform initialisation.
        norms (Module): LN of the later blocks, start 1 and 0.
        kernels (Parameter): (L'-1, K, K), start N(0, 1); None where L' = 1, as the following.
        weights (Parameter): :math:`\alpha`, (L'-1, P, h', w'), start 0.
        biases (Parameter): b, (L'-1, P), start 0.
        down (Linear): :math:`W_1`, D to r without bias, PyTorch's initialisation.
        up (Linear): :math:`W_2`, r to D, likewise.

    Parameters in all: P D + (L'-1) (P h' w' + P + K^2 + 2 D) + 2 r D, with h' = h - K + 1.
    """

    def __init__(
        self,
        num_tokens: int,
        kernel_size: int = 2,
        rank: int = 8,
        dropout: float = 0.0,
        start_block: int = 1,
        **vit,
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        check_int('kernel_size', kernel_size, 1, min(self.grid))
        check_int('rank', rank, 1)
        self.kernel_size = kernel_size
        width, steps = self.embed_dims, self.num_prompted - 1
        self.prompts = vpt_uniform(
            1, num_tokens, width, patch_size=self.patch_size, embed_dims=width
        )
        self.kernels = self.weights = self.biases = self.down = self.up = None
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(steps))
        if steps:
            rows, columns = (side - kernel_size + 1 for side in self.grid)
            self.kernels = nn.Parameter(torch.randn(steps, kernel_size, kernel_size))
            self.weights = nn.Parameter(torch.zeros(steps, num_tokens, rows, columns))
            self.biases = nn.Parameter(torch.zeros(steps, num_tokens))
            self.down = nn.Linear(width, rank, bias=False)
            self.up = nn.Linear(rank, width, bias=False)

    def reads_output(self, l: int) -> bool:
        """No output of a prompt is read."""
        return False

    def input_independent(self, l: int) -> bool:
        """Only the first block's prompts are the same for all images."""
        return l == self.start_block

    def first(self, patches: Tensor, grid: Tuple[int, int]) -> Tuple[Tensor, Tuple[int, int]]:
        """The learnable prompts; the state is the grid."""
        return self.drop(self.prompts), grid

    def next(self, l, prompts_in, prompts_out, patches, state):
        """P_{l+1} from the patches that enter block l+1, (B, P, D)."""
        step, grid = l - self.start_block, state
        if min(grid) < self.kernel_size:
            raise ValueError(
                f'VAPT: a grid of {grid[0]} x {grid[1]} patches is smaller than the '
                f'kernel of {self.kernel_size}; use larger images'
            )
        x = self.norms[step](patches).transpose(1, 2)  # (B, D, N)
        batch, width, _ = x.shape
        kernel = self.kernels[step].to(x.dtype)[None, None]
        x = F.conv2d(x.reshape(batch * width, 1, *grid), kernel).view(batch, width, -1)
        x = F.dropout1d(x, self.dropout, self.training)  # whole channels
        weights = self._weights(step, tuple(side - self.kernel_size + 1 for side in grid))
        prompts = (x @ weights.to(x.dtype).T).transpose(1, 2) + self.biases[step][:, None]
        hidden = self.drop(self.down(prompts).relu())
        return prompts + self.up(hidden), grid

    def _weights(self, step: int, size: Tuple[int, int]) -> Tensor:
        """Alpha of a block for a map of this size, (P, h' w')."""
        weights = self.weights[step]
        # Exported models take any size: theirs is not compared, and an equal one changes nothing.
        if is_exporting() or tuple(weights.shape[1:]) != size:
            areas = weights[0].numel() / (size[0] * size[1])
            resized = F.interpolate(weights[None], size, mode='bilinear', align_corners=False)
            weights = resized[0] * areas
        return weights.flatten(1)
