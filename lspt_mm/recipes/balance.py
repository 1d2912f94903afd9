"""Class weights and defaults for classes of few pixels or images."""

from typing import List, Sequence

import numpy as np

#: Values of ``balance``; 'dice', the last, is for masks alone.
BALANCE = ('none', 'weights', 'sampling', 'dice')
#: A class weighs its share to this power: 0 is no weighting, -1 equal classes (ours).
_POWER = -0.5
#: Smaller shares count as this one.
_LEAST = 1e-4


def class_weights(counts: Sequence[int]) -> List[float]:
    """Weight of each class in the loss; a pixel or image weighs 1 on average.

    Args:
        counts: (K,), pixels or images of each class.
    """
    shares = np.array(counts, float) / np.sum(counts)
    weights = np.maximum(shares, _LEAST) ** _POWER
    return [round(float(weight), 4) for weight in weights / (weights @ shares)]
