"""Which prompt each class belongs to, by k-means of the classes' mean features (DA-VPT)."""

from typing import Tuple

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.models.prompters.class_means import take_shapes


class ClassMapping(nn.Module):
    """Maps K classes to P prompts; K is not known before :meth:`fit`.

    Args:
        num_prompts: P.
        width: D of the features.

    Attributes:
        mapping (Tensor): (K,), for each class a prompt, or -1 without an image of the class.
        centroids (Tensor): (P, D), of the last k-means; 0 if each class has its own prompt.
        sums (Tensor): (K, D), of what :meth:`add` received.
        counts (Tensor): (K,), how many.
        prepared (Tensor): Whether the mapping is known.
    """

    def __init__(self, num_prompts: int, width: int):
        super().__init__()
        self.register_buffer('mapping', torch.zeros(0, dtype=torch.long))
        self.register_buffer('centroids', torch.zeros(num_prompts, width))
        self.register_buffer('sums', torch.zeros(0, width))
        self.register_buffer('counts', torch.zeros(0))
        self.register_buffer('prepared', torch.tensor(False))

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        take_shapes(self, ('mapping', 'sums', 'counts'), state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @torch.no_grad()
    def fit(self, sums: Tensor, counts: Tensor) -> str:
        """Start from sums (K, D) and numbers (K,) of features; return a line for the log."""
        self.mapping = torch.full_like(counts, -1, dtype=torch.long)
        self.sums, self.counts = torch.zeros_like(sums), torch.zeros_like(counts)
        seen = counts > 0
        if int(seen.sum()) > len(self.centroids):
            chosen = torch.randperm(int(seen.sum()))[: len(self.centroids)]  # on the CPU
            means = F.normalize(sums[seen], dim=-1)
            self.centroids.copy_(means[chosen.to(means.device)])
        self.prepared.fill_(True)
        if int(seen.sum()) > len(self.centroids):
            return self._assign(sums, counts)
        self.mapping[seen] = torch.arange(int(seen.sum()), device=seen.device)
        return self._line(seen)

    def _assign(self, sums: Tensor, counts: Tensor) -> str:
        """Map the classes that were seen by k-means, from the last centroids."""
        seen = counts > 0
        means = F.normalize(sums[seen], dim=-1)
        nearest, centroids = cosine_kmeans(means, self.centroids.to(means))
        at_start = bool((self.mapping[seen] < 0).any())
        if len(nearest.unique()) == 1 and not at_start:
            return 'all classes are nearest to one prompt: the mapping is left as it is'
        self.centroids.copy_(centroids)
        self.mapping[seen] = nearest
        return self._line(seen)

    def _line(self, seen: Tensor) -> str:
        used = len(self.mapping[self.mapping >= 0].unique())
        return f'{int(seen.sum())} classes are mapped to {used} of {len(self.centroids)} prompts'

    @torch.no_grad()
    def add(self, features: Tensor, labels: Tensor) -> None:
        """Add features (B, D) to the sums of the images' classes, (B, K) of bool."""
        labels = labels.to(self.sums)
        self.sums += labels.T @ features.to(self.sums)
        self.counts += labels.sum(0)

    @torch.no_grad()
    def update(self, again: bool) -> str:
        """End a pass over the data; ``again``: run k-means, from the last centroids."""
        all_reduce(self.sums)
        all_reduce(self.counts)
        # With a prompt for each class there is nothing to choose.
        chosen = int((self.mapping >= 0).sum()) > len(self.centroids)
        line = self._assign(self.sums, self.counts) if again and chosen else ''
        self.sums.zero_()
        self.counts.zero_()
        return line

    def belongs(self, labels: Tensor) -> Tensor:
        """To which prompt images with classes (B, K) belong, (B, P) of bool; at most one each.

        This is the prompt of most of an image's classes, in a tie the first of these.
        """
        known = self.mapping >= 0
        of_class = F.one_hot(self.mapping.clamp(min=0), len(self.centroids)) * known[:, None]
        votes = labels.float() @ of_class.float()
        chosen = F.one_hot(votes.argmax(1), votes.size(1)).bool()
        return chosen & (votes > 0)


def cosine_kmeans(points: Tensor, centroids: Tensor, rounds: int = 20) -> Tuple[Tensor, Tensor]:
    """k-means by cosine of points (n, D) from centroids (P, D), all of unit length.

    Returns:
        tuple: the nearest centroid of every point (n,), and the last centroids. A centroid without
        points stays where it is.
    """
    for _ in range(rounds):
        nearest = (points @ centroids.T).argmax(1)
        sums = F.one_hot(nearest, len(centroids)).to(points).T @ points
        moved = torch.where(sums.any(1, keepdim=True), F.normalize(sums, dim=-1), centroids)
        if torch.equal(moved, centroids):
            break
        centroids = moved
    return nearest, centroids


def plain_layer_norm(features: Tensor) -> Tensor:
    """Layer norm of features (B, D) without parameters, in float32."""
    return F.layer_norm(features.float(), features.shape[-1:])
