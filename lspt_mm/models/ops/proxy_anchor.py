"""The Proxy-Anchor loss (arXiv 2003.13911)."""

import torch
from torch import Tensor


def proxy_anchor(s: Tensor, belongs: Tensor, margin: float, sharpness: float) -> Tensor:
    r"""Draw images to their proxies and push them from the others.

    .. math::
        \frac{1}{|P^+|} \sum_{k \in P^+} \log \left(1 + \sum_{b \in k} e^{-a (s_{bk} - \delta)}
        \right) + \frac{1}{P} \sum_k \log \left(1 + \sum_{b \notin k} e^{a (s_{bk} + \delta)}
        \right)

    :math:`P^+`: proxies with an image.

    Args:
        s: Similarities of images and proxies, (B, P).
        belongs: Whether an image belongs to a proxy, (B, P).
        margin: :math:`\delta`.
        sharpness: a.
    """
    used = belongs.any(0).sum().clamp(min=1)
    near = _log_one_plus_sum(-sharpness * (s - margin), belongs) / used
    return near + _log_one_plus_sum(sharpness * (s + margin), ~belongs) / s.size(1)


def _log_one_plus_sum(logits: Tensor, chosen: Tensor) -> Tensor:
    """Sum over columns of log(1 + sum over chosen rows of exp), which does not overflow."""
    logits = logits.masked_fill(~chosen, float('-inf'))
    return torch.cat((logits.new_zeros(1, logits.size(1)), logits)).logsumexp(0).sum()
