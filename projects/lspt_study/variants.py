"""Variants of LSPT, each with one part of its equations changed (docs/lspt_study.md).

Use them by ``custom_imports = dict(imports=['projects.lspt_study.variants'])`` and
``prompter=dict(type='LSPTVariant', ...)``.
"""

from typing import Dict, Iterable, Optional, Tuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.models.prompters import LSPT
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_choice, check_number


@PROMPTERS.register_module()
class LSPTVariant(LSPT):
    r"""LSPT with another spatial code, another way into the block, or another start.

    Args:
        num_tokens (int): P.
        code (str): What GSPC adds to the prompts' outputs. ``'mean'``: the mean of the patches,
            the paper's. ``'standardized'``: the same, minus its mean over training images and
            divided by its standard deviation there, per block and channel. ``'centered'``: without
            the division. ``'attended'``: for each prompt the mean of the patches, weighted by
            softmax(<prompt, patch> / sqrt(D)). ``'regions'``: the mean over one of P bands of
            patches, row by row, for each prompt.
        into_block (str): ``'replace'``: the cell's output h is the next prompts, the paper's.
            ``'add'``: :math:`P^l + s_l h` with a scalar s_l that starts at 0, so that training
            starts as VPT-deep's.
        start_scale (float): Factor on VPT's uniform start of the prompts.
        **lspt: :class:`LSPT`'s arguments.
    """

    def __init__(
        self,
        num_tokens: int,
        code: str = 'mean',
        into_block: str = 'replace',
        start_scale: float = 1.0,
        **lspt,
    ):
        super().__init__(num_tokens, **lspt)
        check_choice('code', code, ('mean', 'standardized', 'centered', 'attended', 'regions'))
        check_choice('into_block', into_block, ('replace', 'add'))
        check_number('start_scale', start_scale, 0)
        self.code, self.into_block = code, into_block
        steps = self.num_prompted - 1
        with torch.no_grad():
            self.prompts.mul_(start_scale)
        self.scale = nn.Parameter(torch.zeros(steps)) if into_block == 'add' else None
        if self._has_statistics:
            self.register_buffer('mean', torch.zeros(steps, self.embed_dims))
            self.register_buffer('deviation', torch.ones(steps, self.embed_dims))
            self.register_buffer('prepared', torch.tensor(False))

    @property
    def _has_statistics(self) -> bool:
        return self.code in ('standardized', 'centered')

    @property
    def needs_preparation(self) -> bool:
        """True until the statistics are there."""
        return self._has_statistics and not bool(self.prepared)

    @torch.no_grad()
    def prepare(
        self, vit: nn.Module, batches: Iterable[Tuple[Tensor, Optional[Tensor]]]
    ) -> str:
        """Mean and deviation of the mean patch of each block, over training images."""
        means: Dict[int, list] = {}

        def add(step):
            if self.start_block <= step.number < self.num_layers:
                patches = step.x_out[:, vit.num_prefix_tokens :]
                means.setdefault(step.number, []).append(patches.double().mean(1))

        count = 0
        for images, _ in batches:
            vit.unroll(images, add, prompted=False)
            count += len(images)
        for number, found in means.items():
            all_images = torch.cat(found)
            self.mean[number - self.start_block] = all_images.mean(0)
            self.deviation[number - self.start_block] = all_images.std(0).clamp(min=1e-6)
        self.prepared.fill_(True)
        return f'statistics of the mean patch from {count} images'

    def next(
        self, l: int, prompts_in: Tensor, prompts_out: Tensor, patches: Tensor, state
    ) -> Tuple[Tensor, tuple]:
        """One step with the changed parts."""
        cell, gates, inputs = state
        step = l - self.start_block
        spatial = prompts_out
        if self.gspc:
            spatial = spatial + self._code(step, prompts_out, patches)
        hidden = F.layer_norm(spatial, spatial.shape[-1:]) if self.hidden_norm else spatial
        if self.lstm is None:
            output = hidden
        else:
            output, cell = self.lstm(gates[step], hidden, cell)
        if self.into_block == 'add':
            output = inputs[step] + self.scale[step] * output
        elif self.lstm is None:
            output = inputs[step] + output
        return output, (cell, gates, inputs)

    def _code(self, step: int, prompts: Tensor, patches: Tensor) -> Tensor:
        """(B, 1 or P, D)."""
        if self.code == 'attended':
            similar = prompts @ patches.transpose(1, 2) / self.embed_dims**0.5  # (B, P, N)
            return similar.softmax(-1) @ patches
        if self.code == 'regions':
            bands = patches.tensor_split(self.num_tokens, dim=1)
            return torch.stack([band.mean(1) for band in bands], dim=1)
        mean = patches.mean(1, keepdim=True)
        if self.code == 'centered':
            return mean - self.mean[step]
        if self.code == 'standardized':
            return (mean - self.mean[step]) / self.deviation[step]
        return mean
