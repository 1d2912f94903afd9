"""docs/add_a_method.md, done to the letter in a copy of the repository."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from miniatures import ROOT, once, run_command
from mmengine.config import Config
from PIL import Image

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
        for name in ('lspt_mm', 'tests', 'configs', 'tools', 'projects', 'docs', 'setup.py',
                     'pyproject.toml'):
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


def test_the_page_is_five_places():
    files = [(name, kind) for name, kind, _ in steps()]
    assert files == [
        ('lspt_mm/models/prompters/echo.py', 'python'),
        ('lspt_mm/models/prompters/__init__.py', 'diff'),
        ('tests/test_models/method_table.py', 'diff'),
        ('configs/_base_/prompters/echo.py', 'python'),
        ('docs/reference/prompters.rst', 'diff'),
    ]
    texts = [text for _, _, text in steps()]
    added = [line for line in texts[1].splitlines() if re.match(r'[+-][^+-]', line)]
    assert len(added) == 1 and added[0].startswith('+from')
    assert len(texts[0].splitlines()) < 90


def test_the_new_method_passes_the_shared_tests(copy):
    run = run_command(
        sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
        copy / 'tests/test_models', copy / 'tests/test_configs.py',
        copy / 'tests/test_recipes',
        '-k', 'echo and not clean_process and not type_is_registered and not is_frozen '
        'or every_registered_method or every_method_has_its_configs',
        cwd=copy, PYTHONPATH=f'{copy}:{copy / "tests"}',
    )
    assert run.code == 0, run.out[-3000:]
    passed = int(re.search(r'(\d+) passed', run.out)[1])
    assert passed > 50, run.out[-500:]


def prepared(folder):
    """Images of EuroSAT's ten classes and of two own ones, as the converters lay them out."""
    images = folder / 'data/vtab-1k/eurosat/images'
    images.mkdir(parents=True)
    for label in range(10):
        Image.new('RGB', (32, 32), (25 * label, 99, 0)).save(images / f'{label}.png')
    for split in ('train800', 'val200', 'train800val200', 'test'):
        lines = [f'images/{label}.png {label}\n' for label in range(10)]
        (images.parent / f'{split}.txt').write_text(''.join(lines))
    mine = folder / 'data/mine'
    mine.mkdir()
    (mine / 'about.json').write_text(json.dumps({
        'name': 'mine', 'classes': ['a', 'b'], 'palette': [[0, 0, 0], [1, 2, 3]],
        'images': {'train': 16, 'val': 4}, 'pixels': [3, 1],
    }))


def test_the_new_method_is_trained_by_its_name(copy, tmp_path):
    """Its file in configs/_base_/prompters is all that commands know of it."""
    alone = tmp_path / 'alone'
    shutil.copytree(copy, alone)
    prepared(tmp_path)
    tiny = 'arch=deit-tiny,img_size=32,patch_size=8,epochs=1,batch_size=5,official=False'
    loaders = [f'{name}_dataloader.{key}' for name in ('train', 'val', 'test')
               for key in ('num_workers=0', 'persistent_workers=False')]
    run = run_command(
        sys.executable, alone / 'tools/train.py', f'vtab1k/echo_mae_eurosat:{tiny}',
        '--random-backbone', '--cfg-options', *loaders, cwd=tmp_path, PYTHONPATH=alone,
    )
    assert run.code == 0, run.err[-3000:]
    cfg = Config.fromfile(tmp_path / 'work_dirs/vtab1k/echo_mae_eurosat/transfer.py')
    # Five prompts are GaPT's for this task.
    assert cfg.model.backbone.prompter == {'type': 'EchoPrompt', 'num_tokens': 5}
    masks = (
        'from lspt_mm.config.load import read_config; '
        "cfg = read_config('maskfolder/transfer.py:data=data/mine,method=echo'); "
        'print(cfg.model.backbone.prompter)'
    )
    run = run_command(sys.executable, '-c', masks, cwd=tmp_path, PYTHONPATH=alone)
    assert "{'type': 'EchoPrompt', 'num_tokens': 100}" in run.out, run.err[-2000:]


def test_a_wrong_method_does_not_pass(copy, tmp_path):
    broken = tmp_path / 'broken'
    shutil.copytree(copy, broken)
    file = broken / 'lspt_mm/models/prompters/echo.py'
    file.write_text(file.read_text().replace('return state + self', 'return state - self'))
    run = run_command(
        sys.executable, '-m', 'pytest', '-q', '-x', '-p', 'no:cacheprovider',
        broken / 'tests/test_models/test_literal_equations.py', '-k', 'echo',
        cwd=broken, PYTHONPATH=f'{broken}:{broken / "tests"}',
    )
    assert run.code == 1 and '1 failed' in run.out


def test_a_new_method_fails_without_its_row(copy, tmp_path):
    bare = tmp_path / 'bare'
    shutil.copytree(copy, bare)
    shutil.copy(ROOT / 'tests/test_models/method_table.py', bare / 'tests/test_models')
    run = run_command(
        sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
        bare / 'tests/test_models/test_literal_equations.py', '-k', 'every_registered_method',
        cwd=bare, PYTHONPATH=f'{bare}:{bare / "tests"}',
    )
    assert run.code == 1 and 'EchoPrompt' in run.out
