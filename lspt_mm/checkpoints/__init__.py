"""Checkpoints people already have, and the small ones that come out."""

from lspt_mm.checkpoints.backbone import LoadReport, load_backbone
from lspt_mm.checkpoints.download import is_url
from lspt_mm.checkpoints.families import to_mmpretrain
from lspt_mm.checkpoints.files import read_checkpoint
from lspt_mm.checkpoints.prompts import BaseRecord, records_in
from lspt_mm.checkpoints.sources import read_vit

__all__ = [
    'BaseRecord', 'LoadReport', 'is_url', 'load_backbone', 'read_checkpoint', 'read_vit',
    'records_in', 'to_mmpretrain',
]  # fmt: skip
