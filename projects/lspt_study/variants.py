"""LSPT with another spatial code (docs/lspt_study.md), and BPT with its released start.

Use them by ``custom_imports = dict(imports=['projects.lspt_study.variants'])`` and
``prompter=dict(type='LSPTVariant', code='attended', own_prompts=True, ...)``.
"""

import torch
from torch import Tensor

from lspt_mm.models.prompters import LSPT, BilinearPrompt
from lspt_mm.models.prompters.patch_tokens import patch_tokens
from lspt_mm.models.prompters.whitening import logit_matrix
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_choice


@PROMPTERS.register_module()
class LSPTVariant(LSPT):
    r"""LSPT whose GSPC adds something else than the mean of the patches.

    Args:
        num_tokens (int): P.
        code (str): ``'centered'``: the mean of the patches minus its mean over training images.
            ``'scaled'``: the standardised mean, whose length is about sqrt(D), times
            ``length`` / sqrt(D). ``'attended'``: for each prompt the mean of the patches, weighted
            by softmax(<prompt, patch> / sqrt(D)).
        length (float): About the length of the scaled code.
        **lspt: :class:`LSPT`'s arguments.
    """

    def __init__(self, num_tokens: int, code: str = 'centered', length: float = 1.0, **lspt):
        check_choice('code', code, ('centered', 'scaled', 'attended'))
        super().__init__(num_tokens, **{**lspt, 'standardize': code != 'attended'})
        self.code, self.length = code, length

    def spatial_code(self, step: int, prompts_out: Tensor, patches: Tensor) -> Tensor:
        """The code's (B, 1 or P, D)."""
        if self.code == 'attended':
            similar = prompts_out @ patches.transpose(1, 2) / self.embed_dims**0.5  # (B, P, N)
            return similar.softmax(-1) @ patches
        own = patches.mean(dim=1, keepdim=True) - self.mean[step]
        if self.code == 'centered':
            return own
        return own / self.deviation[step] * (self.length / self.embed_dims**0.5)


@PROMPTERS.register_module()
class ReleasedBilinearPrompt(BilinearPrompt):
    r"""BPT that starts as the authors' code does (github.com/WangYZ1608/BPT, ``bpt_deep.py``).

    It averages :math:`W_q W_k^T X^T` over the images first, to (D, N), divides by D and not by
    the number of tokens, and adds no epsilon. So S has at most N directions, and in the others
    :math:`s^{-1/2}` amplifies float32's rounding.

    Args:
        **bilinear: :class:`BilinearPrompt`'s arguments, without ``start``.
    """

    def __init__(self, **bilinear):
        super().__init__(start='whiten', **bilinear)

    @torch.no_grad()
    def prepare(self, vit, batches) -> str:
        """Compute W of each block and initialise the right factors from it."""
        blocks = [self.start_block + i for i in range(self.left.size(0))]
        sums, count = dict.fromkeys(blocks, 0), 0
        for tokens in patch_tokens(vit, (images for images, _ in batches), blocks, ln1=True):
            sums = {block: sums[block] + tokens[block].sum(0) for block in blocks}
            count += tokens[blocks[0]].size(0)
        for i, block in enumerate(blocks):
            logits = logit_matrix(vit.block(block)) @ (sums[block] / count).T  # (D, N)
            u, s, vh = torch.linalg.svd(logits @ logits.T / self.embed_dims)
            self._right_of(i).copy_(self._columns(u @ torch.diag(s.rsqrt()) @ vh))
        self.prepared.fill_(True)
        norm = self.precompute().norm(dim=-1).mean(1)
        return f'norms of the prompts by block: {[round(float(x), 2) for x in norm]}'
