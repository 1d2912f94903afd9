"""docs/tools.md: its TensorBoard option writes what the log says; what it names exists."""

import json
import re
import shlex

import pytest
from miniatures import ROOT, TOOLS, once, run_ok, write_classification
from mmengine import visualization

pytestmark = pytest.mark.docs

PAGE = (ROOT / 'docs' / 'tools.md').read_text()
COMMANDS = re.findall(r'^    python (tools/.*)$', PAGE, re.MULTILINE)


@pytest.fixture(scope='module')
def cls(tmp_path_factory):
    return once(tmp_path_factory, 'looking_cls', write_classification)


def test_tensorboard_by_the_pages_option(cls, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (option,) = re.findall(r'train\.py CONFIG --cfg-options (\S*Tensorboard\S*)', PAGE)
    run_ok(
        'train.py', cls / 'mini_cls.py', '--work-dir', 'run', '--cfg-options', option,
        'default_hooks.run_log.interval=3', cwd=tmp_path,
    )
    (events,) = (tmp_path / 'run').glob('*/vis_data/events.out.tfevents.*')
    found = EventAccumulator(str(events))
    found.Reload()
    log = [json.loads(line) for line in (tmp_path / 'run/log.jsonl').read_text().splitlines()]
    ours = {line['iter']: line['loss'] for line in log if line['mode'] == 'train'}
    theirs = {event.step: event.value for event in found.Scalars('loss')}
    assert set(ours) == set(theirs) == {3, 6}
    # MMEngine smooths over ten iterations or as many as there are; the first line is the same.
    assert theirs[3] == pytest.approx(ours[3], rel=1e-6)
    (top1,) = (line['accuracy/top1'] for line in log if line['mode'] == 'val')
    assert found.Scalars('accuracy/top1')[0].value == pytest.approx(top1)


def test_backends_that_the_page_names_are_mmengines():
    names = set(re.findall(r'\b(\w+VisBackend)\b', PAGE)) - {'FaultTolerantLocalVisBackend'}
    assert 'WandbVisBackend' in names and len(names) == 7
    assert [name for name in names if not hasattr(visualization, name)] == []


@pytest.mark.parametrize('command', COMMANDS)
def test_options_of_the_pages_commands_exist(command):
    tool, *arguments = shlex.split(command, comments=True)
    path = TOOLS.parent / tool
    assert path.is_file()
    if tool.endswith('openmmlab.py'):
        return
    known = set(re.findall(r"'(--[a-z-]+)'", path.read_text()))
    known |= set(re.findall(r"'(--[a-z-]+)'", (ROOT / 'lspt_mm/config/options.py').read_text()))
    assert {a for a in arguments if a.startswith('--')} <= known
    for argument in arguments:
        if argument.startswith('configs/'):
            assert (ROOT / argument).is_file()


def test_there_are_commands():
    assert len(COMMANDS) == 11


def test_costs_in_the_page_are_what_the_tool_says(tmp_path):
    run = run_ok('analysis_tools/get_flops.py', ROOT / 'configs/lspt_upernet_ade20k.py')
    said = [
        line.split() for line in run.out.splitlines() if line.startswith(('back', 'all', 'neck'))
    ]
    page = [[c.strip() for c in row.strip('|').split('|')] for row in PAGE.splitlines()]
    assert len(said) == 4
    assert [row for row in said if (row + ['', ''])[:5] not in page] == []
