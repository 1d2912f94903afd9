"""Links from pages to files of the repository, such as ``[base.py](../lspt_mm/.../base.py)``.

The same link works where the repository is browsed. In the site it leads to a page that shows the
file; links to README.md and its like lead to their pages here. A link to a file that is not there
is MyST's warning, and so ends the build under ``-W``.
"""

from pathlib import Path

from docutils import nodes
from docutils.transforms.references import DanglingReferences
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[2]
FOLDER = '_source'
#: Files of the repository's root that are pages of the site.
PAGES = {'README.md': 'index', 'CONTRIBUTING.md': 'contributing', 'CHANGELOG.md': 'changes'}
LANGUAGES = {'.py': 'python', '.sh': 'bash', '.toml': 'toml', '.yml': 'yaml', '.txt': 'text'}


def setup(app):
    """Register the transform, the role ``source`` and the pages."""
    app.add_transform(SourceLinks)
    app.connect('missing-reference', resolve)
    app.connect('env-purge-doc', purge)
    app.connect('env-merge-info', merge)
    app.connect('html-collect-pages', pages)
    return {'parallel_read_safe': True, 'parallel_write_safe': True, 'env_version': 1}


def shown_by(env):
    """Names of source files by the page that links to them."""
    if not hasattr(env, 'linked_sources'):
        env.linked_sources = {}
    return env.linked_sources


def link_to(env, name, text):
    """A node that will be a link to the page of file ``name`` (below the repository's root)."""
    shown_by(env).setdefault(env.docname, set()).add(name)
    link = addnodes.pending_xref(
        '', refdomain='', reftype='repository-file', reftarget=name, refdoc=env.docname
    )
    link += text
    return link


class SourceLinks(SphinxTransform):
    """MyST makes downloads of links to files; of the repository's files, pages."""

    default_priority = DanglingReferences.default_priority - 10

    def apply(self, **kwargs):
        """Replace them in one document."""
        for node in list(self.document.findall(addnodes.download_reference)):
            name = self._file(node['reftarget'])
            if name is None:
                continue
            text = nodes.inline('', '', *node.children)
            if name in PAGES:
                link = addnodes.pending_xref(
                    '', text, refdomain='std', reftype='doc', reftarget=f'/{PAGES[name]}',
                    refdoc=self.env.docname, refexplicit=True, refwarn=True,
                )
            else:
                link = link_to(self.env, name, text)
            node.replace_self(link)

    def _file(self, target):
        """Name below the repository's root of a file outside of the pages' folder, else None."""
        pages_folder = Path(self.env.srcdir)
        if target.startswith('/'):
            path = pages_folder / target.lstrip('/')
        else:
            path = pages_folder / Path(self.env.docname).parent / target
        path = path.resolve()
        if not path.is_relative_to(ROOT) or path.is_relative_to(pages_folder.resolve()):
            return None
        name = path.relative_to(ROOT).as_posix()
        return name if name in PAGES or path.suffix in LANGUAGES else None


def resolve(app, env, node, text):
    """Turn :func:`link_to`'s node into a link; into its text where there are no HTML pages."""
    if node.get('reftype') != 'repository-file':
        return None
    if app.builder.format != 'html':
        return text
    uri = app.builder.get_relative_uri(node['refdoc'], f'{FOLDER}/{node["reftarget"]}')
    return nodes.reference('', '', text, refuri=uri, internal=True)


def purge(app, env, docname):
    """Forget a page that is read again."""
    shown_by(env).pop(docname, None)


def merge(app, env, docnames, other):
    """Take over what another process has read."""
    shown_by(env).update({name: shown_by(other).get(name, set()) for name in docnames})


def pages(app):
    """A page for each file that some page links to."""
    names = set().union(*shown_by(app.env).values()) if shown_by(app.env) else set()
    for name in sorted(names):
        text = (ROOT / name).read_text(encoding='utf-8')
        language = LANGUAGES[Path(name).suffix]
        code = app.builder.highlighter.highlight_block(text, language, linenos=False)
        body = f'<h1><code>{name}</code></h1>{code}'
        yield f'{FOLDER}/{name}', {'parents': [], 'title': name, 'body': body}, 'page.html'
