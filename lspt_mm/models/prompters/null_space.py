"""Directions in which prompts may change without changing the attention of earlier tasks (NSP2)."""

from typing import Tuple

import torch
from torch import Tensor, nn

from lspt_mm.models.prompted_block import keys_and_values


def queries_and_attention(vit: nn.Module, step) -> Tuple[Tensor, Tensor]:
    """Second moments of queries and of the attention to prompts in a block, for NSP2.

    Args:
        vit: A :class:`PromptedViT`.
        step (BlockStep): Input of the block.

    Returns:
        tuple: q^T q, (H, d, d), summed over images and averaged over tokens; a^T a, (P, P),
        averaged over heads as well. In float64.
    """
    block, leading = vit.block(step.number), vit.num_prefix_tokens
    q, k = block.project(block.norm1(step.x_in), 0, 2)
    if step.rope is not None:
        q, k = (block.rotate(part, step.rope, leading) for part in (q, k))
    keys, _ = keys_and_values(block, step.prompts_in.to(step.x_in.dtype))
    keys = torch.cat((keys.expand(len(q), -1, -1, -1), k), dim=2)
    logits = q @ keys.transpose(2, 3) * q.size(-1) ** -0.5
    a = logits.softmax(dim=-1)[..., : step.prompts_in.size(1)].double()  # (B, H, T, P)
    q = q.double()
    tokens = q.size(2)
    return (
        torch.einsum('bhid,bhie->hde', q, q) / tokens,
        torch.einsum('bhip,bhir->pr', a, a) / (tokens * q.size(1)),
    )


def null_space(gram: Tensor, normalize: bool) -> Tuple[Tensor, int]:
    """Projection U^T U on the directions of small singular values of a Gram matrix.

    Args:
        gram: (n, n), symmetric.
        normalize: Divide the projection by its Frobenius norm.

    Returns:
        tuple: (n, n) in float64, and the number of these directions. Of fewer than three values,
        the smallest one counts as small.
    """
    values, vectors = torch.linalg.eigh(gram.double())
    values, vectors = values.flip(0), vectors.flip(1)  # from the largest on
    size = len(values)
    if size >= 128:
        from scipy.ndimage import gaussian_filter1d  # takes a second

        values = torch.from_numpy(gaussian_filter1d(values.cpu().numpy(), 10))
    first = size - 1
    if size >= 3:
        first = 1 + int((values[:-2] - 2 * values[1:-1] + values[2:]).argmax())
    free = vectors[:, first:]
    matrix = free @ free.T
    return (matrix / matrix.norm() if normalize else matrix), size - first
