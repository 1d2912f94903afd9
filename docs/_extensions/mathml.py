"""Formulas as MathML, which browsers draw themselves: no script, no fonts, nothing fetched.

docutils does the translation. A formula that it does not understand is a warning, and so ends the
build under ``-W``.
"""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)

#: An accented letter. Alone docutils sets its index below it, as a sum's; in a group beside it.
ACCENTED = re.compile(r'\\(?:hat|tilde|bar) *[A-Za-z]')


def setup(app):
    """Register the renderer ``html_math_renderer = 'mathml'``."""
    app.add_html_math_renderer('mathml', (visit_inline, None), (visit_block, None))
    return {'parallel_read_safe': True, 'parallel_write_safe': True}


def visit_inline(translator, node):
    """A formula in a line of text."""
    _draw(translator, node, as_block=False)


def visit_block(translator, node):
    """A formula with a line of its own; aligned at ``&`` where there are some."""
    translator.body.append('<div class="math-block">')
    _draw(translator, node, as_block=True)
    translator.body.append('</div>')


def _draw(translator, node, as_block):
    formula = node.astext()
    try:
        translator.body.append(tex2mathml(ACCENTED.sub(r'{\g<0>{}}', formula), as_block=as_block))
    except MathError as error:
        logger.warning('formula %r: %s', formula, error, location=node, type='mathml')
        translator.body.append(f'<code>{translator.encode(formula)}</code>')
    raise nodes.SkipNode
