"""What the loss of a method sees of a forward pass."""

from contextlib import contextmanager
from contextvars import ContextVar
from typing import Dict, Iterator, Optional, Tuple

from torch import Tensor


class Observed:
    """Tensors of one forward pass of a prompted ViT, for :meth:`Prompter.losses`.

    Attributes:
        blocks: Tokens that entered the blocks that the method :meth:`~Prompter.observes`, by
            number from 1: class token, registers and patches, (B, E+N, D).
        features: The output of the ViT, one tensor for each of ``out_indices``.
    """

    def __init__(self):
        self.blocks: Dict[int, Tensor] = {}
        self.features: Tuple[Tensor, ...] = ()


#: Of this thread's forward pass; None if no loss is computed.
CURRENT: ContextVar[Optional[Observed]] = ContextVar('observed', default=None)


@contextmanager
def observe() -> Iterator[Observed]:
    """Collect :class:`Observed` of the forward passes in this context and thread."""
    observed = Observed()
    token = CURRENT.set(observed)
    try:
        yield observed
    finally:
        CURRENT.reset(token)
