"""Prompt-tuned backbones and the prompt methods."""

from lspt_mm.models import prompters
from lspt_mm.models.prompted_vit import PromptedViT
from lspt_mm.models.prompters import *  # noqa: F403

__all__ = ['PromptedViT', *prompters.__all__]
