import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from mmengine.config import Config

from lspt_mm.config.paths import config_dir, config_names, config_path
from lspt_mm.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ['lspt_upernet_ade20k', 'pretrain/mae_vit_tiny_160px']

# --- finding a config


def test_checkout_has_its_own_configs():
    assert config_dir() == ROOT / 'configs'


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('suffix', ['', '.py'])
def test_config_path(name, suffix):
    assert config_path(name + suffix) == ROOT / 'configs' / f'{name}.py'


def test_every_config_has_a_name():
    files = {p.relative_to(ROOT / 'configs') for p in (ROOT / 'configs').rglob('*.py')}
    assert {Path(f'{name}.py') for name in config_names()} == files
    assert all(config_path(name).is_file() for name in config_names())


@pytest.mark.parametrize(
    'wrong, meant',
    [
        ('pretrain/mae_vit_tiny_160p', 'pretrain/mae_vit_tiny_160px'),
        ('mae_vit_tiny_160px.py', 'pretrain/mae_vit_tiny_160px'),
        ('ade20k/lspt_upernet_ade20k', 'lspt_upernet_ade20k'),
    ],
)
def test_unknown_name_lists_close_matches(wrong, meant):
    with pytest.raises(InputError) as error:
        config_path(wrong)
    assert repr(wrong) in str(error.value)
    assert meant in str(error.value).split('close matches: ')[1].split(', ')


@pytest.mark.parametrize('wrong', ['', 'zzzzzzzz', '/etc/passwd', '../setup', 'camvid/../x'])
def test_nothing_outside_the_configs(wrong):
    with pytest.raises(InputError, match=f'no config {wrong!r}'):
        config_path(wrong)


def test_package_without_its_configs(tmp_path, monkeypatch):
    (tmp_path / 'configs').mkdir()  # somebody else's, as in site-packages
    monkeypatch.setattr('lspt_mm.config.paths._PACKAGE', tmp_path / 'lspt_mm')
    with pytest.raises(InputError, match='install the package'):
        config_dir()


@pytest.mark.parametrize('name', CONFIGS)
def test_mmengine_takes_the_configs_as_bases(name, tmp_path):
    child = tmp_path / 'child.py'
    child.write_text(f"_base_ = 'lspt_mm::{name}.py'\nanswer = 42\n")
    cfg = Config.fromfile(child)
    assert cfg.pop('answer') == 42
    # No `_scope_` anywhere: types mean what they mean in the base's own file.
    assert cfg.to_dict() == Config.fromfile(config_path(name)).to_dict()


def test_other_packages_configs_are_mmengines_affair(tmp_path):
    child = tmp_path / 'child.py'
    child.write_text("_base_ = 'mmpretrain::_base_/default_runtime.py'\n")
    assert Config.fromfile(child).default_scope == 'mmpretrain'


# --- the wheel


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """A copy to build from: a build leaves `build/` and `*.egg-info` behind."""
    copy = tmp_path_factory.mktemp('tree')
    for folder in ('lspt_mm', 'configs', 'tools', 'projects'):
        shutil.copytree(ROOT / folder, copy / folder)
    for file in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'model-index.yml'):
        shutil.copy(ROOT / file, copy)
    for file in ROOT.glob('requirements*.txt'):
        shutil.copy(file, copy)
    # What must not get in: byte code, and what an earlier build left for a file now gone.
    (copy / 'configs' / '__pycache__').mkdir(exist_ok=True)
    (copy / 'configs' / '__pycache__' / 'x.cpython-311.pyc').write_bytes(b'')
    stale = copy / 'build' / 'lib' / 'lspt_mm' / '.mim' / 'configs' / 'gone.py'
    stale.parent.mkdir(parents=True)
    stale.write_text('')
    return copy


@pytest.fixture(scope='module')
def wheel(tree, tmp_path_factory):
    """The wheel, built by this environment's own setuptools."""
    out = tmp_path_factory.mktemp('wheel')
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
    run(*pip, 'wheel', str(tree), '--no-deps', '--no-build-isolation', '-w', str(out), cwd=out)
    (path,) = out.glob('*.whl')
    return path


@pytest.mark.slow
def test_wheel_carries_configs_and_tools(wheel):
    expected = {
        f'lspt_mm/.mim/{p.relative_to(ROOT).as_posix()}'
        for folder in ('configs', 'tools', 'projects')
        for p in (ROOT / folder).rglob('*')
        if p.is_file() and '__pycache__' not in p.parts
    }
    expected.add('lspt_mm/.mim/model-index.yml')
    file = zipfile.ZipFile(wheel)
    index = file.read('lspt_mm/.mim/model-index.yml')
    assert index == (ROOT / 'model-index.yml').read_bytes()
    names = file.namelist()
    assert {n for n in names if n.startswith('lspt_mm/.mim/')} == expected
    assert not [n for n in names if '__pycache__' in n or n.endswith('.pyc')]
    assert not [n for n in names if n.split('/')[0] in ('configs', 'tools', 'projects', 'tests')]


@pytest.mark.slow
def test_wheel_carries_every_module(wheel):
    modules = {p.relative_to(ROOT).as_posix() for p in (ROOT / 'lspt_mm').rglob('*.py')}
    assert modules <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.slow
def test_wheel_requires_neither_stack_by_itself(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith('.dist-info/METADATA'))
    required = [
        line.split(': ')[1]
        for line in archive.read(name).decode().splitlines()
        if line.startswith('Requires-Dist: ')
    ]
    assert any(r.startswith('torch>=') for r in required)
    for extra, package in (('onedl', 'onedl-mmengine=='), ('openmmlab', 'mmengine==')):
        assert any(r.startswith(package) and f'extra == "{extra}"' in r for r in required)
    assert not [r for r in required if 'extra ==' not in r and r.startswith(('mm', 'onedl'))]


USE_INSTALLED = """
import sys
import lspt_mm
from mmengine.config import Config
from mmengine.hub import get_config
from lspt_mm.config.paths import config_path
target, name = sys.argv[1:]
assert lspt_mm.__file__.startswith(target), lspt_mm.__file__
path = config_path(name)
assert str(path).startswith(target), path
cfg = Config.fromfile(path)
assert cfg.model.type
if '/' in name:  # mmengine.hub knows configs in folders only
    assert get_config(f'lspt_mm::{name}.py').to_dict() == cfg.to_dict()
open('child.py', 'w').write(f"_base_ = 'lspt_mm::{name}.py'")
assert Config.fromfile('child.py').to_dict() == cfg.to_dict()
print('good')
"""


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """Folder that the wheel is installed in."""
    target = tmp_path_factory.mktemp('installed')
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
    run(*pip, 'install', str(wheel), '--no-deps', '--target', str(target), cwd=target)
    return target


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS)
def test_installed_wheel_finds_its_configs(installed, name, tmp_path):
    # The environment may have the checkout installed: `installed` comes before it on the path.
    env = dict(os.environ, PYTHONPATH=str(installed))
    out = run(sys.executable, '-c', USE_INSTALLED, str(installed), name, cwd=tmp_path, env=env)
    assert out.strip().endswith('good')


@pytest.mark.slow
def test_installed_scripts_can_be_run(installed):
    tools = installed / 'lspt_mm' / '.mim' / 'tools'
    assert all(os.access(script, os.X_OK) for script in tools.glob('*.sh'))


@pytest.mark.slow
def test_building_leaves_the_source_tree_alone(tree, wheel):
    assert not (tree / 'lspt_mm' / '.mim').exists()
