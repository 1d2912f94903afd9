"""Tuned models behind a service: uploads read safely, several models on one ViT, their pictures.

Nothing here knows of a web framework; ``tools/demo_app.py`` puts an interface on it.
"""

from lspt_mm.serving.models import ServedModels
from lspt_mm.serving.results import Attention, BlockMaps, ClassShare, Look
from lspt_mm.serving.sources import Source, named_sources, source_of_work_dir
from lspt_mm.serving.uploads import Limits, Upload, read_image

__all__ = [
    'Attention', 'BlockMaps', 'ClassShare', 'Limits', 'Look', 'ServedModels', 'Source', 'Upload',
    'named_sources', 'read_image', 'source_of_work_dir',
]  # fmt: skip
