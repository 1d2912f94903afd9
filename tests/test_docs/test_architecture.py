"""docs/architecture.md: the picture is the code's, and every name on the page exists."""

import ast
import re
import runpy

import pytest
from miniatures import ROOT

pytestmark = pytest.mark.docs

PICTURES = ROOT / 'docs' / 'pictures'
PAGE = (ROOT / 'docs' / 'architecture.md').read_text(encoding='utf-8')


def test_picture_is_up_to_date():
    pytest.importorskip('grimp', reason='pip install -r requirements-dev.txt')
    drawn = runpy.run_path(str(PICTURES / 'draw_imports.py'))['draw']()
    committed = (PICTURES / 'imports.svg').read_text(encoding='utf-8')
    arrows = re.findall('<title>(.*)</title>', committed)
    assert arrows == re.findall('<title>(.*)</title>', drawn), (
        'imports have changed: python docs/pictures/draw_imports.py'
    )
    assert committed == drawn


def defined_in(path):
    """Names of functions, methods, classes and arguments of a file."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding='utf-8'))))
    names = {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    return names | {n.arg for n in nodes if isinstance(n, ast.arg)}


def items():
    """Code spans of each list item or row, as (file, name): the file before it, or None."""
    for line in PAGE.splitlines():
        file = None
        for span in re.findall(r'`([^`]+)`', line):
            if re.match(r'[\w.]+/|pyproject', span):
                path = ROOT / span
                # A config that is read does not end what is said of the file before it.
                file = path if span.endswith('.py') and 'configs/' not in span else file
                yield path, None
            elif re.fullmatch(r'[A-Za-z_]\w*', span):
                yield file, span


def test_every_file_and_name_exists():
    found = list(items())
    assert len([name for _, name in found if name]) > 30
    wrong = [str(path) for path, name in found if name is None and not path.exists()]
    wrong += [
        f'{name} in {file}' for file, name in found if name and name not in defined_in(file)
    ]
    assert not wrong


@pytest.mark.parametrize('walk', ['One image', 'One checkpoint'])
def test_walks_have_ten_steps(walk):
    section = PAGE.split(f'## {walk}')[1].split('\n## ')[0]
    assert re.findall(r'^(\d+)\. `lspt_mm/', section, re.MULTILINE) == list(map(str, range(1, 11)))
