r"""RealNVP (Dinh et al., arXiv 1605.08803): an invertible network of affine couplings.

Shapes: n rows of D channels, D even.
"""

from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from lspt_mm.utils.seed import isolate_rng

#: Bound of a coupling's log-scale: it multiplies by e^-2 to e^2.
MAX_LOG_SCALE = 2.0
#: Couplings, and hidden units of each of their networks. Numbers are ours.
COUPLINGS, HIDDEN = 4, 32
#: Learning rate of Adam, most steps, steps without a better validation that end a fit, and steps
#: between validations.
RATE, STEPS, PATIENCE, EVERY = 1e-3, 300, 100, 5


class AffineCoupling(nn.Module):
    r"""Scales and shifts every other channel, as a function of the channels between.

    :math:`b' = b \exp(s(a)) + t(a)`; s and t are 0 at the start. ``odd``: b are the odd channels.
    """

    def __init__(self, channels: int, odd: bool):
        super().__init__()
        self.odd = odd
        self.net = nn.Sequential(
            nn.Linear(channels // 2, HIDDEN), nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN), nn.ReLU(),
            nn.Linear(HIDDEN, channels),
        )
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, D) to (n, D)."""
        a, b = x[:, not self.odd :: 2], x[:, self.odd :: 2]
        scale, shift = self.net(a).chunk(2, dim=-1)
        b = b * (MAX_LOG_SCALE * torch.tanh(scale / MAX_LOG_SCALE)).exp() + shift
        return torch.stack((a, b) if self.odd else (b, a), dim=-1).flatten(-2)


class RealNVP(nn.Module):
    """Affine couplings of odd and even channels in turn; the identity at the start.

    Args:
        channels: D, an even number.

    Raises:
        ValueError: If D is odd or less than 2.
    """

    def __init__(self, channels: int):
        super().__init__()
        if channels < 2 or channels % 2:
            raise ValueError(f'channels={channels}: expected an even number of at least 2')
        self.couplings = nn.ModuleList(
            AffineCoupling(channels, number % 2 == 0) for number in range(COUPLINGS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, D) to (n, D)."""
        for coupling in self.couplings:
            x = coupling(x)
        return x


def fit_realnvp(
    x: Tensor,
    y: Tensor,
    weights: Tensor,
    validation: Optional[Tuple[Tensor, Tensor]] = None,
    steps: int = STEPS,
    seed: int = 0,
) -> Tuple[RealNVP, int]:
    """Fit a RealNVP from x to y by Adam on all rows at once; random numbers are its own.

    Args:
        x: (n, D), about of unit variance.
        y: (n, D).
        weights: (D,), of the channels' squared errors.
        validation: Other rows x and y. With them, the fit ends when they get no better.
        steps: Number of steps, at most with ``validation``.
        seed: Of the initial weights.

    Returns:
        tuple: The flow after the last step, and the number of steps that was best on
        ``validation``; 0 is the identity. Without ``validation`` it is ``steps``.
    """
    with isolate_rng(seed), torch.enable_grad():
        flow = RealNVP(x.size(1)).to(x)
        optimizer = torch.optim.Adam(flow.parameters(), RATE)
        best, lowest = steps, torch.inf
        for step in range(steps):
            if validation is not None and step % EVERY == 0:
                error = float(_error(flow, *validation, weights).detach())
                if error < lowest:
                    best, lowest = step, error
                if step - best >= PATIENCE:
                    break
            optimizer.zero_grad()
            _error(flow, x, y, weights).backward()
            optimizer.step()
    return flow, best


def _error(flow: RealNVP, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    return ((flow(x) - y).square() @ weights).mean()
