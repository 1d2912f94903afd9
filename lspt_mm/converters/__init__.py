"""Convert published data sets, or your own files, to the lists that training reads.

Nothing is downloaded. ``tools/dataset_converters/prepare.py`` is the command.
"""

from lspt_mm.converters.fgvc import prepare_fgvc
from lspt_mm.converters.image_folder import prepare_image_folder
from lspt_mm.converters.vtab1k import prepare_vtab

__all__ = ['prepare_fgvc', 'prepare_image_folder', 'prepare_vtab']
