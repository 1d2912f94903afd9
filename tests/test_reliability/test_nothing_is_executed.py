"""Files from outside are data: no door of the tools executes what stands in one."""

import importlib.util
import os

import pytest
import torch
from miniatures import once, run_tool, write_segmentation
from mmengine.runner import checkpoint as of_mmengine
from mmengine.runner.checkpoint import CheckpointLoader

from lspt_mm.utils.safe_load import force_weights_only


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def mini(tmp_path_factory):
    return once(tmp_path_factory, 'attacked', write_segmentation)


def evil(folder):
    path = folder / 'evil.pth'
    content = {'state_dict': {}, 'meta': {'iter': 1, 'epoch': 0}, 'message_hub': {}}
    torch.save({**content, 'x': Attack(str(folder / 'executed'))}, path)
    return path


@pytest.mark.parametrize(
    'command',
    [
        'train.py CONFIG --resume EVIL',
        'train.py CONFIG --resume',
        'train.py CONFIG --cfg-options load_from=EVIL',
        'train.py CONFIG --pretrained EVIL',
        'test.py CONFIG EVIL',
        'test.py CONFIG --cfg-options load_from=EVIL',
        'model_converters/publish_model.py EVIL OUT',
    ],
)
def test_doors(command, mini, tmp_path):
    path = evil(tmp_path)
    work = tmp_path / 'work'
    work.mkdir()
    path.rename(work / 'iter_1.pth')
    path = work / 'iter_1.pth'
    (work / 'last_checkpoint').write_text(str(path))
    words = {'CONFIG': mini / 'mini_seg.py', 'EVIL': path, 'OUT': tmp_path / 'out'}
    tool, *arguments = command.split()
    for word, value in words.items():
        arguments = [a.replace(word, str(value)) for a in arguments]
    if tool in ('train.py', 'test.py'):
        arguments[1:1] = ['--work-dir', work]
    run = run_tool(tool, *arguments, cwd=tmp_path)
    assert not (tmp_path / 'executed').exists()
    assert run.code == 2 and 'Traceback' not in run.err, run.err[-2000:]


@pytest.mark.skipif(
    not hasattr(of_mmengine, '_safe_torch_load'), reason='the original mmengine never executes'
)
def test_mmengine_alone_executes_and_is_kept_from_it(tmp_path, monkeypatch):
    path = evil(tmp_path)
    # As it is in a process in which no tool has run.
    name = '_safe_torch_load'
    fresh = importlib.util.module_from_spec(of_mmengine.__spec__)
    monkeypatch.setattr(CheckpointLoader, 'register_scheme', lambda *_, **__: lambda f: f)
    of_mmengine.__spec__.loader.exec_module(fresh)
    monkeypatch.setattr(of_mmengine, name, getattr(fresh, name))
    CheckpointLoader.load_checkpoint(str(path))
    assert (tmp_path / 'executed').exists()  # what this is about
    (tmp_path / 'executed').rmdir()
    force_weights_only()
    with pytest.raises(Exception, match='mkdir'):
        CheckpointLoader.load_checkpoint(str(path))
    assert not (tmp_path / 'executed').exists()
