"""Serve tuned models: safe uploads, several models on one ViT, pictures of their results.

Independent of a web framework; ``projects/demo_app/demo_app.py`` adds an interface.
"""

from projects.demo_app.image_io import Limits, Upload, read_image
from projects.demo_app.models import ServedModels
from projects.demo_app.results import Attention, BlockMaps, ImageResult
from projects.demo_app.sources import Source, named_sources, source_of_work_dir

__all__ = [
    'Attention', 'BlockMaps', 'ImageResult', 'Limits', 'ServedModels', 'Source', 'Upload',
    'named_sources', 'read_image', 'source_of_work_dir',
]  # fmt: skip
