"""Self-Prompt Tuning: prompts initialised from patch tokens (SPT, arXiv 2402.02382)."""

from typing import Iterable, List

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.models.prompters.patch_tokens import patch_tokens
from lspt_mm.models.prompters.vpt import VPT
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_bool, check_choice

MAX_TOKENS = 20_000  # that k-means clusters, unless there are more prompts


class PreparedVPT(VPT):
    """Base class of VPT with another start, computed once from the ViT and training images.

    A subclass implements :meth:`prepare` and sets ``prepared`` there.

    Raises:
        ValueError: For ``project``, with which prompts are not tokens of a block.
    """

    def __init__(self, num_tokens: int, **vpt):
        super().__init__(num_tokens, **vpt)
        if self.projection is not None:
            raise ValueError(
                f'project={vpt["project"]!r}: such prompts have no tokens to start from'
            )
        self.register_buffer('prepared', torch.tensor(False))

    @property
    def needs_preparation(self) -> bool:  # noqa: D102
        return not bool(self.prepared)

    @property
    def own_blocks(self) -> range:
        """Blocks that have prompts of their own, by number from 1 (shallow: the first one)."""
        return range(self.start_block, self.start_block + len(self.prompts))


@PROMPTERS.register_module()
class SelfPrompt(PreparedVPT):
    r"""VPT whose prompts are initialised as prototypes of the patch tokens of the same block.

    Let :math:`E^{l-1}` be patch tokens of some training images that enter block l of the plain
    ViT. :math:`P_{l-1}` starts as P of them, P means, or P cluster centres; all else is as in
    :class:`VPT`. Prepared before the first iteration (``PromptInitHook``).

    Args:
        num_tokens (int): P, the number of prompts.
        start (str): ``'sample'``: P tokens at random. ``'kmeans'``: the centres of P clusters of
            at most 20,000 random tokens. ``'mean'``: the means of P equally long runs of the
            tokens, image after image (with P images, one prompt per image). This is the paper's
            mean pooling; the layout of the runs is our reading.
        position (bool): Whether the tokens of block 1 have their position embedding. In the
            authors' code they do not.
        **vpt: :class:`VPT`'s arguments, except ``project``.

    Attributes:
        prompts (Parameter): (K, P, D); VPT's uniform initialisation until prepared.

    Parameters in all: K P D.
    """

    TRAINING_ONLY = (*VPT.TRAINING_ONLY, 'start', 'position')

    def __init__(self, num_tokens: int, start: str = 'sample', position: bool = True, **vpt):
        super().__init__(num_tokens, **vpt)
        check_choice('start', start, ('sample', 'kmeans', 'mean'))
        check_bool('position', position)
        self.start, self.position = start, position

    @torch.no_grad()
    def prepare(self, vit: nn.Module, batches: Iterable[Tensor]) -> str:
        """Initialise the prompts of each deep block (shallow: the first one) from its tokens."""
        blocks = self.own_blocks
        tokens: List[List[Tensor]] = [[] for _ in blocks]
        for found in patch_tokens(
            vit, (images for images, _ in batches), blocks, position=self.position
        ):
            for kept, block in zip(tokens, blocks, strict=True):
                kept.append(found[block].flatten(0, 1).float().cpu())  # (B*N, D)
        for i, kept in enumerate(tokens):
            self.prompts[i].copy_(self._prototypes(torch.cat(kept) if kept else torch.empty(0, 0)))
        self.prepared.fill_(True)
        return f'prompts of {len(blocks)} block(s) started from patch tokens ({self.start})'

    def _prototypes(self, tokens: Tensor) -> Tensor:
        """P prototypes of tokens (n, D) that are in the order of images: (P, D)."""
        if tokens.size(0) < self.num_tokens:
            raise ValueError(
                f'SelfPrompt: {tokens.size(0)} patch tokens in the images, fewer than the '
                f'{self.num_tokens} prompts; give PromptInitHook more num_images'
            )
        if self.start == 'mean':
            return F.adaptive_avg_pool1d(tokens.T.unsqueeze(0), self.num_tokens).squeeze(0).T
        order = torch.randperm(tokens.size(0))
        if self.start == 'sample':
            return tokens[order[: self.num_tokens]]
        from scipy.cluster.vq import kmeans2  # takes a second, which other methods do not need

        tokens = tokens[order[: max(MAX_TOKENS, self.num_tokens)]].numpy()
        # Seeded by torch, whose generator the hook isolates for this.
        rng = numpy.random.default_rng(int(torch.randint(2**31, ()).item()))
        centres, _ = kmeans2(tokens, self.num_tokens, iter=20, minit='++', rng=rng)
        return torch.from_numpy(centres)
