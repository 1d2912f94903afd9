r"""The reference of configs, made of their docstrings; nothing of a config is executed.

::

    .. configs:: ade20k          every config of configs/ade20k
    .. configs:: .               those of configs/ itself

and ``{config}`ade20k/vpt_upernet_ade20k``` is a link to one, checked as every link is. A config
without a docstring, one that is on no page, and a parent that is not there end a build under
``-W``.
"""

import ast
import posixpath
import re
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from source_pages import ROOT, link_to
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)


class Config(NamedTuple):
    """What is read off a config's file: names of configs are paths below configs/ without .py."""

    name: str
    docstring: str
    parents: tuple


def setup(app):
    """Register the directive ``configs``, the role ``config`` and the check for completeness."""
    app.add_config_value('configs_folder', str(ROOT / 'configs'), 'env')
    app.add_object_type('config', 'config', objname='config')
    app.add_directive('configs', Configs)
    app.connect('env-updated', check_complete)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}


def read_config(folder, path):
    """Name, docstring ('' without one) and parents of the config ``path`` below ``folder``."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    name = path.relative_to(folder).with_suffix('').as_posix()
    # Not cleaned: where all lines but the first are indented, they are meant to be.
    docstring = (ast.get_docstring(tree, clean=False) or '').strip()
    return Config(name, docstring, tuple(_parents(tree, name)))


def _parents(tree, name):
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and '_base_' in map(ast.unparse, statement.targets):
            bases = ast.literal_eval(statement.value)
            for base in [bases] if isinstance(bases, str) else bases:
                joined = posixpath.normpath(posixpath.join(posixpath.dirname(name), base))
                yield joined.removesuffix('.py')


def all_configs(folder):
    """Every config below ``folder``, by name."""
    found = (read_config(folder, path) for path in sorted(folder.rglob('*.py')))
    return {config.name: config for config in found}


class Configs(SphinxDirective):
    """The configs of one folder, in the order of their names."""

    required_arguments = 1
    option_spec = {}

    def run(self):
        """An entry for each."""
        root = Path(self.config.configs_folder)
        folder = root / self.arguments[0]
        paths = sorted(folder.glob('*.py'))
        if not paths:
            raise self.error(f'no configs in configs/{self.arguments[0]}')
        out = []
        for path in paths:
            self.env.note_dependency(str(path))
            out += self._entry(root, read_config(root, path))
        return out

    def _entry(self, root, config):
        if not config.docstring:
            logger.warning(
                'configs/%s.py has no docstring: say in a line what it is of', config.name,
                location=self.get_location(), type='configs',
            )
        lines = [f'.. config:: {config.name}', '']
        lines += [f'   {line}'.rstrip() for line in with_code(config.docstring).splitlines()]
        inherited = ', '.join(f':config:`{name}`' for name in config.parents)
        lines += ['', f'   Inherits {inherited}.' if inherited else '   Inherits nothing.']
        found = self.parse_text_to_nodes('\n'.join(lines))
        name = f'configs/{config.name}.py'
        if (ROOT / name).is_file():  # else, in a test, it is elsewhere
            last = found[-1][-1][-1]  # the entry's content's last paragraph
            last += nodes.Text(' Source: ')
            last += link_to(self.env, name, nodes.literal('', name))
        return found


def with_code(docstring):
    """The docstring with its indented blocks, which are commands, marked as code."""
    block = re.compile(r'(?<=\n\n)((?: {4}.*\n?|\n(?= {4}))+)')
    return block.sub(lambda found: f'.. code-block:: text\n\n{found[1]}', docstring)


def check_complete(app, env):
    """Warn of configs that are on no page, in sites that have pages of configs."""
    shown = {name for kind, name in env.domains.standard_domain.objects if kind == 'config'}
    if not shown:
        return
    for name in all_configs(Path(app.config.configs_folder)):
        if name not in shown:
            logger.warning(
                'configs/%s.py is on no page: docs/reference/configs/ needs a page for its folder',
                name, type='configs',
            )
