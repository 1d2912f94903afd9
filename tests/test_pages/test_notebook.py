"""docs/notebooks/first_steps.ipynb: runs from an empty folder, and is committed tidily."""

import os
import re

import nbformat
import pytest
from miniatures import ROOT

PATH = ROOT / 'docs' / 'notebooks' / 'first_steps.ipynb'
#: What a run has to say, whatever its numbers are.
KEY_OUTPUTS = [
    # P = 10 prompts for 12 blocks of width 384, and a full LSTM cell.
    rf'prompter +{12 * 10 * 384 + 8 * 384 * 384 + 8 * 384:,} ',
    r'16 classes: sky',
    r'loss: first \d+\.\d\d, last \d+\.\d\d',
    r'mIoU after 40 iterations, \d+\.\d %',
    r'block 1: class token \(1, 4, 12, 12\) prompts \(1, 10, 4, 12, 12\)',
    r'the same features: True',
    r'vpt-deep +loss \d',
    r'one image with two sets of prompts: \(2, 128, 12, 12\)',
]


def read():
    return nbformat.read(PATH, as_version=4)


def texts(notebook):
    """What cells printed, and the text of results."""
    for cell in notebook.cells:
        for output in cell.get('outputs', []):
            yield output.get('text', '') or output.get('data', {}).get('text/plain', '')
            yield from output.get('traceback', [])


def pictures(notebook):
    outputs = (o for cell in notebook.cells for o in cell.get('outputs', []))
    return sum('image/png' in output.get('data', {}) for output in outputs)


def test_is_committed_as_it_was_run():
    notebook = read()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == 'code']
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    said = '\n'.join(texts(notebook))
    assert [text for text in KEY_OUTPUTS if not re.search(text, said)] == []
    assert pictures(notebook) == 3


def test_is_tidy():
    assert PATH.stat().st_size < 1.5e6
    notebook = read()
    said = '\n'.join(texts(notebook))
    # Absolute paths, and what a notebook should not have shown.
    assert not re.search(r'(?<![\w.])/(?:home|root|tmp|usr|work|opt|mnt|Users)\b', said)
    assert not re.search(r'Traceback|[Ww]arning|OneDL', said)
    assert all(set(cell.metadata) <= {'tags'} for cell in notebook.cells)
    # The words and the code, without the picture's bytes.
    words = '\n'.join(cell.source for cell in notebook.cells)
    assert not re.search(r'https?://(?!arxiv\.org)|/(?:home|root|tmp)/', words)


def test_tells_the_truth_about_its_length():
    words = '\n'.join(cell.source for cell in read().cells)
    lengths = {int(n) for n in re.findall(r'iterations=(\d+)', words)}
    told = {int(n) for n in re.findall(r'(?:for|of) (\d+)(?: iterations|\.)', words)}
    assert lengths == told == {40}


@pytest.mark.pages
@pytest.mark.slow
def test_runs_from_an_empty_folder(tmp_path):
    from nbclient import NotebookClient

    notebook = read()
    for cell in notebook.cells:
        if cell.cell_type == 'code':
            cell.outputs, cell.execution_count = [], None
    # The package alone: nothing of the checkout is in the folder that it runs in.
    paths = [str(ROOT), os.environ.get('PYTHONPATH', '')]
    environment = {
        **os.environ, 'PYTHONPATH': os.pathsep.join(filter(None, paths)), 'OMP_NUM_THREADS': '1'
    }
    environment.pop('MPLBACKEND', None)  # the kernel's own draws into the notebook
    client = NotebookClient(
        notebook,
        timeout=900,
        kernel_name='python3',
        resources={'metadata': {'path': str(tmp_path)}},
    )
    client.execute(env=environment)
    said = '\n'.join(texts(notebook))
    assert [text for text in KEY_OUTPUTS if not re.search(text, said)] == []
    assert pictures(notebook) == 3
    assert {p.name for p in (tmp_path / 'runs').iterdir()} == {'lspt', 'vpt-deep'}
