"""Checkpoints people already have."""

from lspt_mm.checkpoints.backbone import LoadReport, load_backbone
from lspt_mm.checkpoints.families import to_mmpretrain
from lspt_mm.checkpoints.files import is_url, read_checkpoint

__all__ = ['LoadReport', 'is_url', 'load_backbone', 'read_checkpoint', 'to_mmpretrain']
