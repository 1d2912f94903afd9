"""``python -m lspt_mm TOOL``: every tool by its name, and configs by theirs."""

import ast
import runpy
import sys
from pathlib import Path

import pytest
from miniatures import CONFIGS, ROOT, TOOLS, run_command

from lspt_mm.__main__ import find_tools, listing, main, summary_of, tool_named
from lspt_mm.config.arguments import split_arguments
from lspt_mm.config.load import read_config
from lspt_mm.config.paths import config_dir
from lspt_mm.errors import InputError


def test_every_tool_is_found_and_listed():
    files = {p for p in TOOLS.rglob('*') if p.suffix in ('.py', '.sh') and p.name[0] != '_'}
    # What a project's page or command line is; its other files are modules.
    projects = ['demo', 'practice', 'demo_app', 'serving_memory', 'benchmark', 'large_images',
                'measures', 'predict_speed', 'small_data', 'small_vit', 'soak']
    files |= {path for path in (ROOT / 'projects').rglob('*.py') if path.stem in projects}
    tools = find_tools()
    assert set(tools.values()) == files
    text = listing()
    for name, path in tools.items():
        summary = summary_of(path)
        assert summary and any(
            line.split()[:1] == [name] and line.endswith(summary) for line in text.splitlines()
        ), name


@pytest.mark.parametrize(
    'name',
    ['train', 'train.py', 'tools/train.py', './tools/train.py'],
)
def test_names_of_a_tool(name):
    assert tool_named(name) == config_dir().parent / 'tools/train.py'


def test_names_with_folders_and_hyphens():
    assert tool_named('dataset_converters/prepare') == tool_named('prepare')
    assert tool_named('publish-model') == tool_named('publish_model')
    assert tool_named('dist_train').suffix == '.sh'


@pytest.mark.parametrize(
    ('wrong', 'meant'), [('trian', 'train'), ('publish', 'publish_model'), ('masks', 'own_masks')]
)
def test_unknown_names_get_close_matches(wrong, meant, capsys):
    assert main([wrong]) == 2
    told = capsys.readouterr().err
    assert repr(wrong) in told and meant in told


@pytest.mark.parametrize('wrong', ['', '../setup', '/bin/sh', '..', '.', 'train/..'])
def test_nothing_outside_the_tools(wrong):
    with pytest.raises(InputError):
        tool_named(wrong)


def test_docstrings_are_parsed_and_not_run(tmp_path):
    (tmp_path / 'tool.py').write_text('"""First.\n\nSecond."""\nraise SystemExit(9)\n')
    assert summary_of(tmp_path / 'tool.py') == 'First.'
    (tmp_path / 'bare.py').write_text('x = 1\n')
    assert summary_of(tmp_path / 'bare.py') == ''


@pytest.mark.slow
def test_it_runs_a_tool_as_a_script_with_its_exit_code(tmp_path):
    run = run_command(sys.executable, '-m', 'lspt_mm', 'train', 'no_such_config.py', cwd=tmp_path,
                      PYTHONPATH=str(TOOLS.parent))
    assert run.code == 2 and 'no_such_config.py does not exist' in run.err
    assert 'Traceback' not in run.err


@pytest.mark.slow
def test_it_runs_shell_tools(tmp_path):
    run = run_command(sys.executable, '-m', 'lspt_mm', 'dist_train', cwd=tmp_path,
                      PYTHONPATH=str(TOOLS.parent))
    assert run.code == 2 and 'usage:' in run.err


def test_tools_do_not_run_when_imported():
    """What `python -m lspt_mm` starts is guarded, so that processes it spawns do not start it."""
    for path in find_tools().values():
        if path.suffix == '.py':
            last = ast.parse(path.read_text()).body[-1]
            assert isinstance(last, ast.If), path


# ---- configs by name --------------------------------------------------------------------------


@pytest.mark.parametrize(
    'name', ['lspt_upernet_ade20k', 'lspt_upernet_ade20k.py', 'configs/lspt_upernet_ade20k.py']
)
def test_configs_of_the_package(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_config(name).filename == str(CONFIGS / 'lspt_upernet_ade20k.py')
    assert read_config('camvid/lspt_upernet_camvid').model.decode_head.num_classes == 11


def test_a_file_in_the_current_folder_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'lspt_upernet_ade20k.py').write_text('mine = True\n')
    assert read_config('lspt_upernet_ade20k.py').mine


def test_unknown_configs_get_close_matches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match='does not exist.*camvid/lspt_upernet_camvid'):
        read_config('camvid/lspt_upernet_canvid.py')


@pytest.mark.parametrize(
    ('text', 'path', 'values'),
    [
        ('a.py:pretrained=timm:x.dino', 'a.py', {'pretrained': 'timm:x.dino'}),
        ('a.py:data=d,pretrained=https://h:8/x?y=1', 'a.py',
         {'data': 'd', 'pretrained': 'https://h:8/x?y=1'}),
        ('C:\\a.py:data=D:\\d', 'C:\\a.py', {'data': 'D:\\d'}),
    ],
)
def test_colons_in_values(text, path, values):
    assert split_arguments(text) == (path, values)


@pytest.mark.parametrize(('tool', 'options', 'last'), [
    ('predict.py', ['--device', 'cpu'], {'images': [Path('last')]}),
    ('deployment/export.py', ['--size', '512', '512'], {'out': Path('last')}),
    ('model_converters/publish_model.py', ['--merged'], {'out': Path('last')}),
    ('test.py', ['--tta'], {}),
    ('report.py', ['--split', 'val'], {'runs': ['c.py', 'x.pth', 'last']}),
])
def test_options_may_stand_between_paths(tool, options, last, monkeypatch):
    parse_args = runpy.run_path(str(ROOT / 'tools' / tool))['parse_args']
    end = ['last'] if last else []
    for line in (['c.py', 'x.pth', *end, *options], ['c.py', *options, 'x.pth', *end],
                 ['c.py', 'x.pth', *options, *end]):
        monkeypatch.setattr(sys, 'argv', [tool, *line])
        args = parse_args()
        assert getattr(args, 'checkpoint', 'x.pth') == 'x.pth'
        assert {name: getattr(args, name) for name in last} == last


@pytest.mark.parametrize('paths', [['c.py', 'x.pth'], ['.', 'x.onnx', 'y.onnx']])
def test_paths_that_are_missing_or_too_many(paths, monkeypatch, capsys):
    parse_args = runpy.run_path(str(ROOT / 'tools/deployment/export.py'))['parse_args']
    monkeypatch.setattr(sys, 'argv', ['export.py', *paths])
    with pytest.raises(SystemExit):
        parse_args()
    assert 'expected RUN_FOLDER OUT, or CONFIG CHECKPOINT OUT' in capsys.readouterr().err
