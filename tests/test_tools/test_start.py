"""Tools answer --help, and refuse wrong options and missing packages, without the stack."""

import importlib
import subprocess
import sys

import pytest
from miniatures import ROOT

from lspt_mm.__main__ import find_tools
from lspt_mm.utils.installed import require_when_imported

#: Packages that take a second or more to import, or import such packages.
STACK = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmseg', 'mmpretrain', 'timm', 'matplotlib',
         'scipy', 'sklearn', 'gradio')
TOOLS = [name for name, path in find_tools().items() if path.suffix == '.py']
#: Runs the command line of ``python -m lspt_mm``; names what was imported, on the last line.
PROGRAM = """
import atexit, sys
names = sys.argv.pop(1).split(',')
atexit.register(lambda: print('imported', *(n for n in names if sys.modules.get(n))))
from lspt_mm.__main__ import main
sys.exit(main())
"""


def start(*arguments, names=STACK, before=''):
    """Exit code, stderr, and those of ``names`` that a fresh process has imported."""
    done = subprocess.run(
        [sys.executable, '-c', before + PROGRAM, ','.join(names), *map(str, arguments)],
        capture_output=True, text=True, cwd=ROOT,
    )
    imported = done.stdout.splitlines()[-1].split()
    assert imported[0] == 'imported', done.stdout + done.stderr
    return done.returncode, done.stderr, imported[1:]


@pytest.mark.parametrize(
    ('arguments', 'code'), [([], 0), (['--version'], 0), (['trian'], 2)], ids=str
)
def test_the_command_without_a_tool_imports_no_numpy(arguments, code):
    found, _, imported = start(*arguments, names=(*STACK, 'numpy', 'PIL', 'cv2', 'rich'))
    assert (found, imported) == (code, [])


@pytest.mark.parametrize('tool', TOOLS)
def test_help_imports_nothing_of_the_stack(tool):
    assert start(tool, '--help') == (0, '', [])


@pytest.mark.parametrize('tool', ['train', 'segment', 'report'])
def test_an_unknown_option_is_refused_without_the_stack(tool):
    code, error, imported = start(tool, '--wrong')
    assert (code, imported) == (2, [])
    assert error.startswith('usage:') and 'error: ' in error


@pytest.mark.parametrize(
    ('tool', 'option'),
    [
        ('train', '--checkpoint'), ('test', '--launcher'), ('search', '--final-on'),
        ('segment', '--method'), ('segment', '--head'), ('segment', '--labels'),
        ('classify', '--method'), ('continual', '--method'), ('demo', '--method'),
        ('benchmark', '--methods'), ('report', '--split'), ('table', '--format'),
        ('reproduce small', '--tasks'), ('reproduce small', '--methods'),
        ('reproduce paper', '--methods'), ('reproduce paper', '--pretraining'),
    ],
)
def test_a_value_outside_the_choices_is_refused_without_the_stack(tool, option):
    code, error, imported = start(*tool.split(), option, 'nonsense')
    assert (code, imported) == (2, [])
    assert f'argument {option}: invalid choice' in error


# ---- packages that are not installed -----------------------------------------------------------

#: Hides packages from this process, as if they were not installed.
HIDE = 'import sys; sys.modules.update(dict.fromkeys({!r}))\n'


@pytest.mark.parametrize(
    ('arguments', 'missing', 'extra'),
    [
        (['segment', '--images', 'a', '--masks', 'b', '--out', 'c'], ['mmseg'], 'onedl'),
        (['classify', '--images', 'a', '--out', 'c'], ['mmpretrain'], 'onedl'),
        (['classify', '--images', 'a', '--out', 'c'], ['mmengine', 'mmcv'], 'onedl'),
        (['continual', '--task', 'a', '--out', 'c'], ['mmpretrain'], 'onedl'),
        (['demo'], ['mmseg'], 'onedl'),
        (['demo_app', 'config.py', 'a.pth'], ['gradio'], 'app'),
        (['export', 'config.py', 'a.pth', 'model.onnx'], ['onnx', 'onnxscript'], 'onnx'),
        (['openmmlab', 'mmseg'], ['mmseg'], 'onedl'),
    ],
)
def test_a_missing_package_is_reported_without_the_stack(arguments, missing, extra):
    code, error, imported = start(*arguments, before=HIDE.format(missing))
    assert (code, imported) == (2, [])
    assert error.startswith(f'error: {" and ".join(missing)}: needed here, but not installed: ')
    assert f"pip install 'lspt_mm[{extra}]'" in error and error.count('\n') == 1


@pytest.mark.parametrize('missing', ['mmengine', 'mmseg'])
def test_a_missing_package_of_a_config_is_reported(missing):
    code, error, _ = start('train', 'lspt_upernet_ade20k', before=HIDE.format([missing]))
    assert code == 2
    assert error.startswith(f'error: {missing}: needed here, but not installed: pip install')


@pytest.mark.parametrize('name', ['load', 'apis', 'deployment'])
def test_a_missing_package_of_the_api_is_reported(name):
    program = HIDE.format(['mmengine']) + f'import lspt_mm; assert {name!r} in dir(lspt_mm)\n'
    done = subprocess.run([sys.executable, '-c', f'{program}lspt_mm.{name}'], cwd=ROOT, text=True,
                          capture_output=True)
    assert done.returncode and 'InputError: mmengine: needed here, but not' in done.stderr


def test_the_missing_package_of_someone_else_is_not_hidden():
    with pytest.raises(ModuleNotFoundError, match='no_such_package'), require_when_imported():
        importlib.import_module('no_such_package')
    with pytest.raises(ModuleNotFoundError, match='mmengine.no_such_part'), require_when_imported():
        importlib.import_module('mmengine.no_such_part')
