"""Serve tuned models: safe uploads, several models on one ViT, pictures of their results.

Independent of a web framework; ``projects/demo_app/demo_app.py`` adds an interface.
"""

from lspt_mm.utils.lazy import lazy_exports

__getattr__, __all__ = lazy_exports(
    __name__,
    image_io=('Limits', 'Upload', 'read_image'),
    models=('ServedModels',),
    results=('Attention', 'BlockMaps', 'ImageResult'),
    sources=('Source', 'named_sources', 'source_of_work_dir'),
)
