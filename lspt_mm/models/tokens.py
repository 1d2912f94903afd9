"""The tokens of a batch, with or without prompts, with as few copies as possible.

Shapes: B images, E prefix tokens (class token, registers), P prompts, N patches, D width.
"""

from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor


class BlockStep(NamedTuple):
    """Input and output of block ``number`` (1..L), for ``PromptedBackbone.unroll``.

    ``x_in``, ``x_out``: class, register and patch tokens (B, E+N, D). ``prompts_in``: (1 or B, P,
    D) or None. ``prompts_out``: (B, P, D), or None if they are not read. ``hw``: rows and
    columns of patches. ``rope``: rotary embedding of the patches in this block, if it has one.
    ``prompted``: whether the method took part in the pass.
    """

    number: int
    x_in: Tensor
    prompts_in: Optional[Tensor]
    x_out: Tensor
    prompts_out: Optional[Tensor]
    hw: Tuple[int, int]
    rope: Optional[Tensor] = None
    prompted: bool = True


class Tokens:
    """``[prefix | prompts | patches]`` in one tensor, the input of a block.

    Parts are views, made on first access. Inserting the same prompts again, as shallow methods
    do, copies nothing.

    Args:
        x: All tokens, (B, E+P+N, D).
        num_prefix: E, the number of tokens before the prompts.
        num_prompts: P; 0 without prompts.
    """

    def __init__(self, x: Tensor, num_prefix: int, num_prompts: int = 0):
        self.x = x
        self.num_prefix = num_prefix
        self.num_prompts = num_prompts
        self._parts: Optional[Tuple[Tensor, Optional[Tensor], Tensor]] = None
        self._without_prompts = None if num_prompts else x

    def _split(self) -> Tuple[Tensor, Optional[Tensor], Tensor]:
        if self._parts is None:
            num_patches = self.x.size(1) - self.num_prefix - self.num_prompts
            # Split, not sliced: a slice's gradient is a tensor of zeros as large as x.
            sizes = (self.num_prefix, self.num_prompts, num_patches)
            prefix, prompts, patches = self.x.split(sizes, dim=1)
            self._parts = (prefix, prompts if self.num_prompts else None, patches)
        return self._parts

    @property
    def prefix(self) -> Tensor:
        """Class token and registers, (B, E, D)."""
        return self._split()[0]

    @property
    def prompts(self) -> Optional[Tensor]:
        """Prompts, (B, P, D), or None."""
        return self._split()[1]

    @property
    def patches(self) -> Tensor:
        """Patch tokens, (B, N, D)."""
        return self._split()[2]

    @property
    def without_prompts(self) -> Tensor:
        """Prefix and patches, (B, E+N, D)."""
        if self._without_prompts is None:
            self._without_prompts = torch.cat((self.prefix, self.patches), dim=1)
        return self._without_prompts

    def with_prompts(self, prompts: Optional[Tensor]) -> 'Tokens':
        """The same tokens with the prompts replaced by ``prompts`` (1 or B, P, D), or removed."""
        if prompts is None:
            return Tokens(self.without_prompts, self.num_prefix) if self.num_prompts else self
        if prompts is self.prompts:
            return self
        prompts = prompts.to(self.x.dtype).expand(self.x.size(0), -1, -1)
        x = torch.cat((self.prefix, prompts, self.patches), dim=1)
        out = Tokens(x, self.num_prefix, prompts.size(1))
        out._without_prompts = self._without_prompts
        return out
