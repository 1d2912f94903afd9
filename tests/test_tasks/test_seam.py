"""Outside lspt_mm/tasks no code asks which task it is."""

import ast
from pathlib import Path

import pytest
from miniatures import ROOT

#: Repairs of the stack, subclasses of mmseg's heads, and the benchmark of mmseg's training step.
ALLOWED = {
    'lspt_mm/_compat.py', 'lspt_mm/models/heads.py', 'lspt_mm/models/segmentors.py',
    'projects/benchmark/cases.py', 'projects/benchmark/large_images.py',
}
SCOPES = {'mmseg', 'mmpretrain'}
NAMES = {'MMSegInferencer', 'ImageClassificationInferencer', 'SegDataSample'}
FILES = [
    path for folder in ('lspt_mm', 'tools', 'projects') for path in (ROOT / folder).rglob('*.py')
    if path.relative_to(ROOT).as_posix() not in ALLOWED and 'tasks' not in path.parts[-2:]
]


def questions(tree):
    """Lines that compare a scope, ask a model for its head, or name a task's own classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
            if any(isinstance(p, ast.Constant) and p.value in SCOPES for p in parts):
                yield node.lineno
        elif isinstance(node, ast.Attribute) and node.attr in ('decode_head', 'segments'):
            yield node.lineno
        elif isinstance(node, ast.Call) and getattr(node.func, 'id', '') in ('hasattr', 'getattr'):
            if any(isinstance(a, ast.Constant) and a.value == 'decode_head' for a in node.args):
                yield node.lineno
        elif {getattr(node, 'id', None), getattr(node, 'name', None)} & NAMES:
            yield node.lineno


def test_nobody_asks():
    found = {
        str(path.relative_to(ROOT)): lines
        for path in FILES if (lines := list(questions(ast.parse(path.read_text()))))
    }
    assert len(FILES) > 100 and found == {}


@pytest.mark.parametrize('text', [
    "cfg.get('default_scope') == 'mmseg'", "x = 'mmpretrain' != scope", 'model.decode_head(x)',
    "hasattr(model, 'decode_head')", 'from mmseg.apis import MMSegInferencer',
])
def test_questions_are_found(text):
    assert list(questions(ast.parse(text))) == [1]


def test_the_tasks_themselves_ask():
    path = Path(ROOT / 'lspt_mm/tasks/segmentation.py')
    assert list(questions(ast.parse(path.read_text())))
