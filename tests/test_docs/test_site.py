"""The documentation site: what has to be in it is there, and what is broken ends its build."""

import importlib
import inspect
import os
import re
import sys
import zlib

import pytest
from miniatures import ROOT, once, run_command

pytestmark = pytest.mark.docs

DOCS = ROOT / 'docs'
SITE_TAKES_MINUTES = pytest.mark.slow


def registered():
    """Every class of the library in one of its registries."""
    for name in ('models', 'datasets', 'engine'):
        importlib.import_module(f'lspt_mm.{name}')
    registries = importlib.import_module('lspt_mm.registry')
    for name, registry in vars(registries).items():
        if type(registry).__name__ == 'Registry' and not name.startswith('MMENGINE'):
            for found in registry.module_dict.values():
                if found.__module__.startswith('lspt_mm.'):
                    yield found


def documented():
    """The objects behind the reference's ``autoclass`` and ``autofunction``."""
    for page in sorted((DOCS / 'reference').glob('*.rst')):
        module = None
        for kind, name in re.findall(
            r'^\.\. (\w+module|autoclass|autofunction):: (\S+)', page.read_text(), re.MULTILINE
        ):
            if kind.endswith('module'):
                module = name
                continue
            place, attribute = name.rsplit('.', 1) if '.' in name else (module, name)
            yield getattr(importlib.import_module(place), attribute)


def test_every_registered_class_is_in_the_reference():
    classes = set(registered())
    assert len(classes) > 25
    missing = classes - set(filter(inspect.isclass, documented()))
    assert not missing


def test_all_that_the_packages_export_is_in_the_reference():
    found = set(map(id, documented()))
    for name in ('models', 'checkpoints', 'datasets', 'engine', 'deployment', 'analysis'):
        package = importlib.import_module(f'lspt_mm.{name}')
        for exported in package.__all__:
            assert id(getattr(package, exported)) in found, f'lspt_mm.{name}.{exported}'


def configs():
    return sorted((ROOT / 'configs').rglob('*.py'))


# What follows builds sites.


def build(source, out, *options, warnings_end_it=True):
    """Build ``source`` with the site's own settings, as ``make docs`` does."""
    pytest.importorskip('myst_nb', reason='pip install -r requirements-docs.txt')
    strict = ['-W', '--keep-going'] if warnings_end_it else []
    return run_command(
        sys.executable, '-m', 'sphinx', '-n', *strict, '-q', '-c', DOCS, *options, source, out,
        PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
    )


def objects_of(site):
    """Names of the site's inventory: {'py:class': {...}, 'std:config': {...}, ...}."""
    content = (site / 'objects.inv').read_bytes().split(b'\n', 4)[4]
    names = {}
    for line in zlib.decompress(content).decode().splitlines():
        name, kind, _ = line.split(' ', 2)
        names.setdefault(kind, set()).add(name)
    return names


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    def make(folder):
        run = build(DOCS, folder / 'site')
        assert run.code == 0, run.err[-3000:]

    return once(tmp_path_factory, 'site', make) / 'site'


@SITE_TAKES_MINUTES
def test_the_site_builds_and_holds_every_class_and_config(site):
    names = objects_of(site)
    assert {f'lspt_mm.models.{m}' for m in ('PromptedViT', 'LSPT', 'VPT')} <= names['py:class']
    wanted = {p.relative_to(ROOT / 'configs').with_suffix('').as_posix() for p in configs()}
    assert names['std:config'] == wanted
    assert all((site / '_source' / 'configs' / f'{name}.py.html').is_file() for name in wanted)


@SITE_TAKES_MINUTES
def test_nothing_is_fetched_to_read_it(site):
    fetched = re.compile(r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="(?:https?:)?//[^"]*"')
    for page in site.rglob('*.html'):
        assert not fetched.findall(page.read_text()), page
    for sheet in site.rglob('*.css'):
        assert not re.search(r'@import|url\(["\']?(https?:)?//', sheet.read_text()), sheet


@SITE_TAKES_MINUTES
def test_formulas_are_drawn(site):
    page = (site / 'reference' / 'prompters.html').read_text()
    lspt = page[page.index('id="lspt_mm.models.LSPT"') :][:20000]
    assert '<math' in lspt and 'merror' not in page
    # An accented letter has its index beside it.
    assert re.search(r'<msubsup>\s*<mrow>\s*<mover', lspt)


WHOLE = {
    'index.md': '# Site\n\n```{toctree}\npage\nother\n```\n',
    'page.md': '# Page\n\n[other](other.rst), [part](index.md#site), '
    '[code](ROOT/lspt_mm/errors.py), {math}`\\alpha_1`\n',
    'other.rst': 'Other\n=====\n\nA part\n------\n\n:doc:`page`\n',
}
BROKEN = {
    'a link to no file': ('page.md', '\n[x](ROOT/lspt_mm/no_such_file.py)\n', 'no_such_file'),
    'a config that is none': ('other.rst', '\n:config:`ade20k/none`\n', 'ade20k/none'),
    'a formula that is none': ('other.rst', '\n:math:`\\nosuch{x}`\n', 'nosuch'),
}


@pytest.fixture
def small_site(tmp_path):
    """A site of three pages; returns a function that adds text to a page and builds it."""

    def with_text(name=None, text='', *options):
        source = tmp_path / 'source'
        source.mkdir()
        root = os.path.relpath(ROOT, source)
        for page, content in WHOLE.items():
            (source / page).write_text(content.replace('ROOT', root))
        if name:
            with open(source / name, 'a') as file:
                file.write(text.replace('ROOT', root))
        return build(source, tmp_path / 'out', *options)

    return with_text


@SITE_TAKES_MINUTES
def test_a_site_without_a_fault_builds(small_site, tmp_path):
    run = small_site()
    assert run.code == 0, run.err
    page = (tmp_path / 'out' / 'page.html').read_text()
    assert 'href="_source/lspt_mm/errors.py.html"' in page
    assert 'InputError' in (tmp_path / 'out' / '_source/lspt_mm/errors.py.html').read_text()


@SITE_TAKES_MINUTES
@pytest.mark.parametrize('fault', BROKEN)
def test_a_fault_ends_the_build(small_site, fault):
    page, text, named = BROKEN[fault]
    run = small_site(page, text)
    assert run.code == 1 and named in run.err, run.err


@SITE_TAKES_MINUTES
@pytest.mark.parametrize(
    'content, named',
    [
        ('x = 1\n', 'own/mine.py has no docstring'),
        ('"""Mine."""\n_base_ = "./gone.py"\n', 'own/gone'),
        (None, 'own/mine.py is on no page'),
        ('"""Mine.\n\n    a command --amp\n"""\n', ''),
    ],
)
def test_configs_without_a_docstring_a_parent_or_a_page_end_the_build(
    small_site, tmp_path, content, named
):
    own = tmp_path / 'configs' / 'own'
    shown = tmp_path / 'configs' / 'shown'
    for folder in (own, shown):
        folder.mkdir(parents=True)
        (folder / 'mine.py').write_text('"""Mine."""\n')
    pages = '\n.. configs:: shown\n'
    if content is not None:
        (own / 'mine.py').write_text(content)
        pages += '\n.. configs:: own\n'
    run = small_site('other.rst', pages, '-D', f'configs_folder={tmp_path / "configs"}')
    if named:
        assert run.code == 1 and named in run.err, run.err
    else:
        assert run.code == 0, run.err
        page = (tmp_path / 'out' / 'other.html').read_text()
        assert re.search(r'<pre>.*a command --amp', page)
