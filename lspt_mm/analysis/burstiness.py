r"""Burstiness of :math:`\tilde X = W_q W_k^T X^T`, before and after whitening (BPT, 2506.22908)."""

from typing import Iterable, List, NamedTuple

import torch
from torch import Tensor, nn

from lspt_mm.models.prompters.patch_tokens import patch_tokens
from lspt_mm.models.prompters.whitening import logit_matrix, whiten

#: Edges of the histograms, in standard deviations.
EDGES = torch.linspace(-8, 8, 65)
#: Patch tokens of an image: all of large images would take gigabytes.
PATCHES = 256


class Burstiness(NamedTuple):
    """Statistics of all entries in one block.

    ``kurtosis``: excess kurtosis, E (v - m)^4 / E ((v - m)^2)^2 - 3: 0 of a Gaussian, large where
    a few entries are huge. ``density``: density of (v - m) / s over :data:`EDGES` (64 values).
    """

    number: int
    kurtosis: float
    whitened_kurtosis: float
    density: List[float]
    whitened_density: List[float]


@torch.no_grad()
def burstiness(
    vit: nn.Module,
    fit: Iterable[Tensor],
    batches: Iterable[Tensor],
    blocks: Iterable[int],
    epsilon: float = 1e-6,
) -> List[Burstiness]:
    """Measure burstiness in blocks of the plain ViT, without its prompts.

    Args:
        vit: A :class:`PromptedViT` with its weights loaded.
        fit: Images (B, 3, H, W) that the whitening is computed from, with X after the first norm.
        batches: Other images; burstiness is measured on at most 256 random patches of each.
        blocks: Numbers of blocks, from 1.
        epsilon: As in ``BilinearPrompt``.

    Raises:
        ValueError: If the logits of a block are not linear in prompts, or not finite.
    """
    blocks = list(blocks)
    matrices = whiten(vit, fit, blocks, epsilon)
    found = {block: [] for block in blocks}
    generator = torch.Generator().manual_seed(0)
    for tokens in patch_tokens(vit, batches, blocks, ln1=True):
        chosen = torch.randperm(tokens[blocks[0]].size(1), generator=generator)[:PATCHES]
        for block in blocks:
            x = tokens[block]
            found[block].append(x[:, chosen.to(x.device)].flatten(0, 1))
    result = []
    for block in blocks:
        x = torch.cat(found[block]).double()  # (n, D)
        entries = x @ logit_matrix(vit.block(block)).double().T
        whitened = entries @ matrices[block].matrix.T
        raw, white = _shape(entries), _shape(whitened)
        result.append(Burstiness(block, raw[0], white[0], raw[1], white[1]))
    return result


def _shape(values: Tensor):
    """Excess kurtosis, density over :data:`EDGES`."""
    values = values.flatten()
    values = values - values.mean()
    variance = values.square().mean()
    kurtosis = float(values.pow(4).mean() / variance.square() - 3)
    scaled = values / variance.sqrt()
    edges = EDGES.to(scaled)
    inside = scaled[(scaled >= edges[0]) & (scaled <= edges[-1])]
    counts = torch.histc(inside, len(edges) - 1, float(edges[0]), float(edges[-1]))
    width = float(edges[1] - edges[0])
    return kurtosis, (counts / (len(scaled) * width)).tolist()
