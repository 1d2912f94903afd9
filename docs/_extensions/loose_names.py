"""Names in docstrings without their modules: ``:class:`PromptedViT``` from anywhere.

Docstrings are read in the code, where such a name says enough. Here it is looked up among all
objects of the reference; none or several of that name are warnings, and so end the build.
"""

from sphinx import addnodes
from sphinx.transforms import SphinxTransform


def setup(app):
    """Register the transform."""
    app.add_transform(LooseNames)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}


class LooseNames(SphinxTransform):
    """Sphinx's own fuzzy search, which a leading dot asks for, for all names."""

    default_priority = 500

    def apply(self, **kwargs):
        """Ask for it in one document."""
        for node in self.document.findall(addnodes.pending_xref):
            if node.get('refdomain') == 'py':
                node['refspecific'] = True
