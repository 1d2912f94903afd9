"""Prompt methods, one file each: the maths of the paper and nothing else."""

from lspt_mm.models.prompters.base import Prompter
from lspt_mm.models.prompters.bilinear import BilinearPrompt
from lspt_mm.models.prompters.gated import GatedPrompt
from lspt_mm.models.prompters.lspt import LSPT
from lspt_mm.models.prompters.spt import SelfPrompt
from lspt_mm.models.prompters.vfpt import FourierPrompt
from lspt_mm.models.prompters.vpt import VPT

__all__ = [
    'LSPT',
    'VPT',
    'BilinearPrompt',
    'FourierPrompt',
    'GatedPrompt',
    'Prompter',
    'SelfPrompt',
]
