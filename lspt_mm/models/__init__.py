"""Prompt-tuned backbones and the prompt methods."""

from importlib.util import find_spec

from lspt_mm.checkpoints import io as mmengine_loader
from lspt_mm.models import prompters, standardize  # noqa: F401
from lspt_mm.models.prompt_sets import PromptSets
from lspt_mm.models.prompted_vit import PromptedViT
from lspt_mm.models.prompters import *  # noqa: F403
from lspt_mm.models.timm_prompted_vit import TimmPromptedViT

if find_spec('mmseg') is not None:  # classification needs none of it
    from lspt_mm.models import heads, losses, segmentors  # noqa: F401

__all__ = ['PromptSets', 'PromptedViT', 'TimmPromptedViT', *prompters.__all__]

mmengine_loader.register()
