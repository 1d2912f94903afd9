"""The tokens of a batch, with or without prompts among them, copied as seldom as possible.

Shapes: B images, E leading tokens (class token, registers), P prompts, N patches, D width.
"""

from typing import Optional, Tuple

import torch
from torch import Tensor


class Tokens:
    """``[extra | prompts | patches]`` in one tensor, as a block runs on it.

    Parts are views, made when they are first asked for. Putting the same prompts in again, as a
    method does that carries them on, copies nothing.

    Args:
        row: All tokens, (B, E+P+N, D).
        num_extra: E, how many of them stand before the prompts.
        num_prompts: P; 0 if there are none among them.
    """

    def __init__(self, row: Tensor, num_extra: int, num_prompts: int = 0):
        self.row = row
        self.num_extra = num_extra
        self.num_prompts = num_prompts
        self._parts: Optional[Tuple[Tensor, Optional[Tensor], Tensor]] = None
        self._plain = None if num_prompts else row

    def _split(self) -> Tuple[Tensor, Optional[Tensor], Tensor]:
        if self._parts is None:
            num_patches = self.row.size(1) - self.num_extra - self.num_prompts
            # Split, not sliced: a slice's gradient is a tensor of zeros as large as the row.
            sizes = (self.num_extra, self.num_prompts, num_patches)
            extra, prompts, patches = self.row.split(sizes, dim=1)
            self._parts = (extra, prompts if self.num_prompts else None, patches)
        return self._parts

    @property
    def extra(self) -> Tensor:
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
    def plain(self) -> Tensor:
        """Without the prompts, (B, E+N, D)."""
        if self._plain is None:
            self._plain = torch.cat((self.extra, self.patches), dim=1)
        return self._plain

    def with_prompts(self, prompts: Optional[Tensor]) -> 'Tokens':
        """The same tokens with ``prompts`` (1 or B, P, D) in place of those there are, or none."""
        if prompts is None:
            return Tokens(self.plain, self.num_extra) if self.num_prompts else self
        if prompts is self.prompts:
            return self
        prompts = prompts.to(self.row.dtype).expand(self.row.size(0), -1, -1)
        row = torch.cat((self.extra, prompts, self.patches), dim=1)
        out = Tokens(row, self.num_extra, prompts.size(1))
        out._plain = self._plain
        return out
