"""E2VPT: deep prompts, prompts inside attention, and pruning (E2VPT, arXiv 2307.13770)."""

from typing import Optional, Tuple

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from lspt_mm.models.prompters.apt import check_head_width
from lspt_mm.models.prompters.base import DeepPrompter, Training, vpt_uniform
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_int, check_share

PRUNE_AT = 0.5  # share of the run before pruning
SEGMENTS = 16  # S, the paper's
LEAST_TOKENS, LEAST_SEGMENTS = 1, 4  # that pruning leaves; segments of each token


@PROMPTERS.register_module()
class E2VPT(DeepPrompter):
    r"""VPT-deep with further keys and values in every head, and optional pruning of the prompts.

    With keys k and values v of head h of block l:

    .. math::
        & \tilde P_l = P_l \odot t \odot s \\
        & k \leftarrow [K_{l,h} ; k], \qquad v \leftarrow [K_{l,h} ; v]

    :math:`P_l` are prompts as in VPT-deep. :math:`K_{l,h}` (n, d) are keys and values at once, as
    in the authors' code. The masks t (P,) of tokens and s (P, S) of segments, S = 16 as in the
    paper, are the same for all blocks; they are 1 without pruning. A pruned token stays as a zero
    vector.

    **Pruning.** The authors train, score, prune, and train again from the same start, for each of
    nine shares. Here (ours) the run goes on instead. After the first pass over the training set
    that reaches half of the run, it prunes once. Prompts, keys and values then return to their
    start, and the optimizer forgets them. The head and the schedule of the learning rate go on. A
    run that has no pass left then is not pruned.

    The score of a token or segment is :math:`|\partial loss / \partial t_j|` or
    :math:`|\partial loss / \partial s_{j,k}|`, summed over the steps of that pass. It comes from
    the gradients of ordinary steps; the authors' extra pass for scores trains the model as well.
    Their scores are signed, so that the gradients of different images cancel. Segments are ranked
    within each token (ours). They are contiguous, as the order of channels has no meaning. The
    authors' code tiles its mask, so that its segment k has the channels k, k + S, and so on.

    Args:
        num_tokens (int): P, prompts of each block.
        num_keys_values (int): n, further keys of each head; at least 1.
        prune (float, optional): Share of the tokens that is pruned, and of the segments of each
            token, in [0, 1). One token and four segments remain at least. The paper searches 0.1
            to 0.9; None is without pruning. D must be divisible by 16.
        dropout (float): On prompts, and on keys and values. VPT's: 0.1.
        start_block (int): First block with prompts, from 1.

    Attributes:
        prompts (Parameter): (L', P, D), VPT's uniform initialisation.
        key_value_prompts (Parameter): (L', H, n, d), U(-v, v), v = sqrt(6 / (n d)) (Kaiming).
        token_mask (Tensor): t, of bool. This and all others are buffers, only with ``prune``; so
            are segment_mask (s), the sums of a pass token_scores and segment_scores, and copies of
            the start, start_prompts and start_key_value_prompts.
        pruned (Tensor): Whether pruning is done.

    Parameters in all: L' P D + L' n D. On ViT-B with P = 10 and n = 5 these are 138,240; the
    authors also count their masks, P + S P, and have 138,410.
    """

    TRAINING_ONLY = ('dropout',)

    def __init__(
        self,
        num_tokens: int,
        num_keys_values: int = 5,
        prune: Optional[float] = None,
        dropout: float = 0.0,
        start_block: int = 1,
        **vit,
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        check_int('num_keys_values', num_keys_values, 1)
        self.prune = prune
        blocks, width = self.num_prompted, self.embed_dims
        self.prompts = vpt_uniform(
            blocks, num_tokens, width, patch_size=self.patch_size, embed_dims=width
        )
        shape = (blocks, self.num_heads, num_keys_values, width // self.num_heads)
        bound = (6 / (shape[2] * shape[3])) ** 0.5
        self.key_value_prompts = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self._scoring = False
        if prune is None:
            return
        check_share('prune', prune)
        if width % SEGMENTS:
            raise ValueError(
                f'prune={prune}: a token of D = {width} has no {SEGMENTS} equal segments; expected '
                'prune=None, or a ViT of another width'
            )
        for name, size in (('token', (num_tokens,)), ('segment', (num_tokens, SEGMENTS))):
            self.register_buffer(f'{name}_mask', torch.ones(size, dtype=torch.bool))
            self.register_buffer(f'{name}_scores', torch.zeros(size))
        for name, parameter in list(self.named_parameters()):
            self.register_buffer(f'start_{name}', parameter.detach().clone())
        self.register_buffer('pruned', torch.tensor(False))

    def check_vit(self, vit: nn.Module) -> None:
        """Also raise ValueError if heads are not D / H wide."""
        super().check_vit(vit)
        check_head_width(self, vit)

    def first(self, patches: Tensor, grid: Tuple[int, int]) -> Tuple[Tensor, Tensor]:
        """The first block's prompts; the state is those of all blocks, (L', 1, P, D)."""
        prompts = self.prompts
        if self.prune is not None:
            prompts = prompts * self._mask().to(prompts.dtype)
            if self._scoring and prompts.requires_grad:
                prompts.register_hook(self._add_scores)
        prompts = self.drop(prompts.unsqueeze(1))
        return prompts[0], prompts

    def keys_values(self, l: int) -> Tuple[Tensor, Tensor]:
        """The same tensor as keys and as values of block l, (1, H, n, d)."""
        pairs = self.drop(self.key_value_prompts[l - self.start_block])[None]
        return pairs, pairs

    def trains_by_hook(self) -> bool:
        """Only pruning needs the hook."""
        return self.prune is not None

    def before_step(self) -> None:
        """Collect scores in this step, unless pruning is done."""
        self._scoring = self.prune is not None and not self.pruned

    def after_step(self) -> None:
        """Collect no scores outside of steps."""
        self._scoring = False

    @torch.no_grad()
    def after_epoch(self, training: Training) -> str:
        """Prune and return to the start, once."""
        if self.prune is None or self.pruned or not self.prompts.requires_grad:
            return ''
        if training.epoch >= training.num_epochs:
            return 'not pruned, as no pass over the training set is left'
        line = ''
        if training.epoch >= PRUNE_AT * training.num_epochs:
            line = self._prune()
            for name, parameter in self.named_parameters():
                parameter.copy_(getattr(self, f'start_{name}'))
                training.forget(parameter)
        self.token_scores.zero_()
        self.segment_scores.zero_()
        return line

    def _prune(self) -> str:
        for scores, mask, least in (
            (self.token_scores, self.token_mask, LEAST_TOKENS),
            (self.segment_scores, self.segment_mask, LEAST_SEGMENTS),
        ):
            all_reduce(scores, 'mean')
            mask.copy_(largest(scores, self.prune, least))
        self.pruned.fill_(True)
        tokens, segments = int(self.token_mask.sum()), int(self.segment_mask[0].sum())
        return (
            f'kept {tokens} of {self.num_tokens} tokens and {segments} of {SEGMENTS} '
            'segments of each; the prompts are back at their start'
        )

    def _mask(self) -> Tensor:
        """t and s of each channel, (P, D)."""
        channels = self.segment_mask.repeat_interleave(self.embed_dims // SEGMENTS, dim=1)
        return self.token_mask[:, None] & channels

    @torch.no_grad()
    def _add_scores(self, gradient: Tensor) -> None:
        """Add the scores of a step, from the gradient of all prompts, (L', P, D)."""
        products = (self.prompts * gradient).sum(0).unflatten(1, (SEGMENTS, -1)).sum(-1)
        products = products.nan_to_num(0.0, 0.0, 0.0)  # a loss scale may overflow
        self.segment_scores += products.abs()
        self.token_scores += products.sum(1).abs()


def largest(scores: Tensor, share: float, least: int) -> Tensor:
    """Mark all but the smallest ``share`` of the last dimension, and at least ``least``."""
    size = scores.size(-1)
    count = min(round(share * size), size - least)
    smallest = scores.argsort(dim=-1, stable=True)[..., :count]
    return torch.ones_like(scores, dtype=torch.bool).scatter_(-1, smallest, False)
