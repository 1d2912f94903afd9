"""Reads public ViT checkpoints; writes and reads prompt-only ones."""

from lspt_mm.checkpoints.download import is_url
from lspt_mm.checkpoints.io import read_checkpoint
from lspt_mm.checkpoints.key_mapping import to_mmpretrain
from lspt_mm.checkpoints.load_backbone import LoadReport, load_backbone, load_vit_state_dict
from lspt_mm.checkpoints.records import BaseRecord, records_in

__all__ = [
    'BaseRecord', 'LoadReport', 'is_url', 'load_backbone', 'read_checkpoint', 'load_vit_state_dict',
    'records_in', 'to_mmpretrain',
]
