"""Whitening of W_q W_k^T X^T, in which the attention logits of prompts are linear (BPT)."""

from typing import Dict, Iterable, NamedTuple

import torch
from torch import Tensor, nn

from lspt_mm.models.prompters.patch_tokens import patch_tokens


class Whitening(NamedTuple):
    """A whitening matrix and its statistics.

    ``matrix``: (D, D), symmetric. ``weak``: the number of directions with too little variance to
    be whitened because of epsilon (the result is below 0.999), including those without any.
    ``tokens``: n.
    """

    matrix: Tensor
    weak: int
    tokens: int


def logit_matrix(block) -> Tensor:
    r"""The paper's :math:`W_q W_k^T` (D, D) of a ``ViTBlock``, without biases.

    In the paper's row convention q = P W_q. torch stores a linear layer's weight as (out, in), so
    that the matrix is ``weight_q.T @ weight_k``: ``P @ logit_matrix @ X.T`` are the logits of
    prompts P against tokens X, summed over heads and before scaling. If patches are rotated,
    these are the logits at the position without rotation.
    """
    weight_q, weight_k = block.query_key_weights()
    return weight_q.T @ weight_k


def check_linear_logits(vit: nn.Module, blocks: Iterable[int], what: str, instead: str) -> None:
    """Raise ValueError if the logits of prompts are not linear in them, in one of the blocks.

    Args:
        vit: A :class:`PromptedViT`.
        blocks: Numbers of blocks, from 1.
        what: What cannot be done, for the message.
        instead: What is expected.
    """
    for number in blocks:
        block, why = vit.block(number), 'it can only be run as a whole'
        if block is not None:
            try:
                block.query_key_weights()
                continue
            except ValueError as error:
                why = error
        raise ValueError(f'{what} block {number} of this ViT: {why}; expected {instead}')


def whitening_matrix(covariance: Tensor, epsilon: float):
    """U diag(s + e)^(-1/2) U^T for the covariance U diag(s) U^T (D, D), e = epsilon * mean(s).

    Returns:
        tuple: the matrix (D, D), and the number of directions with s < 999 e, whose variance
        after whitening, s / (s + e), is below 0.999.
    """
    s, u = torch.linalg.eigh(covariance)
    s = s.clamp(min=0)  # rounding
    e = epsilon * s.mean()
    return (u * (s + e).rsqrt()) @ u.T, int((s < 999 * e).sum())


@torch.no_grad()
def whiten(
    vit: nn.Module, batches: Iterable[Tensor], blocks: Iterable[int], epsilon: float
) -> Dict[int, Whitening]:
    r"""Whitening of :math:`\tilde X = W_q W_k^T X^T` for blocks of a ViT.

    X are patch tokens after the block's first norm, as attention takes them.

    Args:
        vit: A :class:`PromptedViT` with its weights loaded.
        batches: Images (B, 3, H, W); the covariance is that of the patch tokens of all of them.
        blocks: Numbers of blocks, from 1.
        epsilon: Added to every variance, in units of their mean.

    Returns:
        dict: number of the block to its :class:`Whitening`, in float64.
    """
    blocks = list(blocks)
    second_moment: Dict[int, Tensor] = {}
    count = 0
    for tokens in patch_tokens(vit, batches, blocks, ln1=True):
        for block in blocks:
            x = tokens[block].flatten(0, 1).double()  # (B*N, D)
            second_moment[block] = second_moment.get(block, 0) + x.T @ x
        count += x.size(0)
    if not count:
        raise ValueError('whitening: there is no image to compute it from')
    result = {}
    for block in blocks:
        m = logit_matrix(vit.block(block)).double()
        # S = 1/n sum (M x)(M x)^T, not centred, as in the paper.
        matrix, weak = whitening_matrix(m @ (second_moment[block] / count) @ m.T, epsilon)
        result[block] = Whitening(matrix, weak, count)
    return result
