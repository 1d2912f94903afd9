"""Visual Fourier Prompt Tuning (VFPT, arXiv 2411.01327)."""

import math

import torch
from torch import Tensor

from lspt_mm.models.prompters.vpt import VPT
from lspt_mm.registry import PROMPTERS
from lspt_mm.utils.checks import check_number


@PROMPTERS.register_module()
class FourierPrompt(VPT):
    r"""VPT with a share of the prompts in every block replaced by their 2D Fourier transform.

    Of the P prompts of a block, the first :math:`m = \lfloor \alpha P \rfloor` are replaced:

    .. math::
        P'_{1..m} = \operatorname{Re}(\mathcal F_{\text{tokens}}(\mathcal F_{\text{channels}}
        (P_{1..m}))), \qquad P'_{m+1..P} = P_{m+1..P}

    The transform is not normalised and follows dropout, as in the authors' code. Taking the first
    m is our choice, as the order of prompts has no meaning.

    Args:
        num_tokens (int): P, the number of prompts.
        share (float): :math:`\alpha`, in [0, 1].
        **vpt: All of :class:`VPT`'s arguments.

    Attributes:
        prompts (Parameter): (K, P, D), before the transform.

    Parameters in all: VPT's.
    """

    def __init__(self, num_tokens: int, share: float = 0.5, **vpt):
        super().__init__(num_tokens, **vpt)
        check_number('share', share)
        if not 0 <= share <= 1:
            raise ValueError(f'share={share!r}: expected a number in [0, 1]')
        self.num_fourier = math.floor(round(share * num_tokens, 6))  # 0.29 * 100 is below 29

    def transform(self, prompts: Tensor) -> Tensor:
        """P' of prompts (..., P, D)."""
        fourier, plain = prompts.split((self.num_fourier, self.num_tokens - self.num_fourier), -2)
        if not self.num_fourier:
            return plain
        if fourier.dtype not in (torch.float32, torch.float64):
            fourier = fourier.float()  # half precision has no transform on CPUs
        fourier = torch.fft.fft(torch.fft.fft(fourier, dim=-1), dim=-2).real
        return torch.cat((fourier.to(prompts.dtype), plain), dim=-2)
