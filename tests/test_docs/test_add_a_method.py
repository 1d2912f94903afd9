"""docs/add_a_method.md, done to the letter in a copy of the repository."""

import re
import shutil
import subprocess
import sys

import pytest
from miniatures import ROOT, once, run_command

pytestmark = pytest.mark.docs

PAGE = ROOT / 'docs' / 'add_a_method.md'
#: A file's name and what is to be done to it: its content, or a patch.
STEP = re.compile(
    r'^`([^`\n]+)`, [^\n]*:\n\n```(python|diff)\n(.*?)^```$', re.MULTILINE | re.DOTALL
)


def steps():
    return STEP.findall(PAGE.read_text())


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    def make(folder):
        for name in ('lspt_mm', 'tests', 'configs', 'tools', 'projects', 'pyproject.toml'):
            source = ROOT / name
            if source.is_dir():
                ignored = shutil.ignore_patterns('__pycache__')
                shutil.copytree(source, folder / name, ignore=ignored)
            else:
                shutil.copy(source, folder)
        for name, kind, text in steps():
            if kind == 'python':
                assert not (folder / name).exists()
                (folder / name).write_text(text)
            else:
                subprocess.run(['git', 'apply', '-'], input=text, text=True, cwd=folder, check=True)

    return once(tmp_path_factory, 'added_method', make)


def test_the_page_is_one_file_one_import_one_table_and_three_lines():
    files = [(name, kind) for name, kind, _ in steps()]
    assert files == [
        ('lspt_mm/models/prompters/echo.py', 'python'),
        ('lspt_mm/models/prompters/__init__.py', 'diff'),
        ('tests/test_models/method_table.py', 'diff'),
        ('configs/ade20k/echo_upernet_ade20k.py', 'python'),
    ]
    texts = [text for _, _, text in steps()]
    added = [line for line in texts[1].splitlines() if re.match(r'[+-][^+-]', line)]
    assert len(added) == 1 and added[0].startswith('+from')
    assert len(texts[3].split('"""')[2].strip().splitlines()) == 3
    assert len(texts[0].splitlines()) < 90


def test_the_new_method_passes_the_shared_tests(copy):
    run = run_command(
        sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
        copy / 'tests/test_models', copy / 'tests/test_configs.py',
        '-k', 'echo and not clean_process and not registered and not frozen '
        'or every_registered_method or every_method_has_its_configs',
        cwd=copy, PYTHONPATH=f'{copy}:{copy / "tests"}',
    )  # fmt: skip
    assert run.code == 0, run.out[-3000:]
    passed = int(re.search(r'(\d+) passed', run.out)[1])
    assert passed > 60, run.out[-500:]


def test_a_wrong_method_does_not_pass(copy, tmp_path):
    broken = tmp_path / 'broken'
    shutil.copytree(copy, broken)
    file = broken / 'lspt_mm/models/prompters/echo.py'
    file.write_text(file.read_text().replace('return state + self', 'return state - self'))
    run = run_command(
        sys.executable, '-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider',
        broken / 'tests/test_models/test_literal_equations.py', '-k', 'echo',
        cwd=broken, PYTHONPATH=f'{broken}:{broken / "tests"}',
    )  # fmt: skip
    assert run.code == 1 and '1 failed' in run.out


def test_a_new_method_fails_without_its_row(copy, tmp_path):
    bare = tmp_path / 'bare'
    shutil.copytree(copy, bare)
    shutil.copy(ROOT / 'tests/test_models/method_table.py', bare / 'tests/test_models')
    run = run_command(
        sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
        bare / 'tests/test_models/test_literal_equations.py', '-k', 'every_registered_method',
        cwd=bare, PYTHONPATH=f'{bare}:{bare / "tests"}',
    )  # fmt: skip
    assert run.code == 1 and 'EchoPrompt' in run.out
