"""Prompt-tuned backbones and the prompt methods."""

from lspt_mm.models.prompted_vit import PromptedViT
from lspt_mm.models.prompters import LSPT, Prompter

__all__ = ['LSPT', 'PromptedViT', 'Prompter']
