"""LSPT with another spatial code (docs/lspt_study.md).

Use it by ``custom_imports = dict(imports=['projects.lspt_study.variants'])`` and
``prompter=dict(type='LSPTVariant', code='attended', own_prompts=True, ...)``.
"""

import torch
from torch import Tensor

from lspt_mm.models.prompters import LSPT
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_choice


@PROMPTERS.register_module()
class LSPTVariant(LSPT):
    r"""LSPT whose GSPC adds something else than the mean of the patches.

    Args:
        num_tokens (int): P.
        code (str): ``'centered'``: the mean of the patches minus its mean over training images.
            ``'attended'``: for each prompt the mean of the patches, weighted by
            softmax(<prompt, patch> / sqrt(D)). ``'regions'``: for each prompt the mean over one of
            P bands of patches, row by row.
        **lspt: :class:`LSPT`'s arguments.
    """

    def __init__(self, num_tokens: int, code: str = 'centered', **lspt):
        check_choice('code', code, ('centered', 'attended', 'regions'))
        super().__init__(num_tokens, **{**lspt, 'standardize': code == 'centered'})
        self.code = code

    def spatial_code(self, step: int, prompts_out: Tensor, patches: Tensor) -> Tensor:
        """The code's (B, 1 or P, D)."""
        if self.code == 'attended':
            similar = prompts_out @ patches.transpose(1, 2) / self.embed_dims**0.5  # (B, P, N)
            return similar.softmax(-1) @ patches
        if self.code == 'regions':
            bands = patches.tensor_split(self.num_tokens, dim=1)
            return torch.stack([band.mean(1) for band in bands], dim=1)
        return patches.mean(dim=1, keepdim=True) - self.mean[step]
