"""The documentation site: ``sphinx-build -n -W --keep-going docs build/site``, offline.

Pages are Markdown (MyST), the reference is made of docstrings (autodoc), configs of their
docstrings (``_extensions/config_pages.py``). Nothing is fetched: not while building, not to read.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / '_extensions')]
# Sphinx imports the library to read its docstrings; a GPU or a second thread has nothing to do.
os.environ.setdefault('OMP_NUM_THREADS', '1')

project = 'lspt_mm'
author = 'the lspt_mm contributors'
project_copyright = author
version = release = (ROOT / 'lspt_mm' / 'version.py').read_text().split("'")[1]

extensions = [
    'myst_nb',  # MyST Markdown, and notebooks
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'config_pages',
    'loose_names',
    'mathml',
    'source_pages',
]
source_suffix = {'.rst': 'restructuredtext', '.md': 'myst-nb', '.ipynb': 'myst-nb'}
exclude_patterns = ['_build', '**.ipynb_checkpoints']
language = 'en'
# Dashes of field lists alone: quotes are the author's.
smartquotes_action = 'D'

# Notebooks are shown with the outputs they hold; tests run them, the site does not.
nb_execution_mode = 'off'
myst_enable_extensions = ['dollarmath', 'deflist']
myst_heading_anchors = 4  # [text](page.md#a-heading), checked

autodoc_member_order = 'bysource'
autodoc_typehints = 'signature'
autodoc_preserve_defaults = True
# The registries' own words for what a config calls a class.
add_module_names = False
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # the attributes of a class are part of its text
napoleon_use_rtype = False
napoleon_preprocess_types = True
napoleon_type_aliases = {
    'Linear': '~torch.nn.Linear',
    'Module': '~torch.nn.Module',
    'Parameter': '~torch.nn.Parameter',
    'Path': '~pathlib.Path',
    'Tensor': '~torch.Tensor',
    'sequence': '~collections.abc.Sequence',
}

# `-n` complains of every name without a page. There are no inventories offline, so that names of
# other libraries cannot have one; of our own every name must.
_OTHERS = 'torch nn mmengine mmcv mmseg mmpretrain timm numpy np PIL pathlib random argparse'
nitpick_ignore_regex = [('py:.*', rf'({"|".join(_OTHERS.split())}|collections|contextlib)\..*')]

html_theme = 'furo'
html_title = f'lspt_mm {release}'
html_math_renderer = 'mathml'
html_static_path = ['_static']
html_css_files = ['site.css']
html_copy_source = False
html_show_copyright = False
