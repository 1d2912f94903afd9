"""Prompt methods, one file each: the maths of the paper and nothing else."""

from lspt_mm.models.prompters.base import Prompter
from lspt_mm.models.prompters.lspt import LSPT

__all__ = ['LSPT', 'Prompter']
