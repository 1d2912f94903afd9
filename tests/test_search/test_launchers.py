"""Launchers: so many at once, each told its share of the machine, exit codes brought back."""

import os
import subprocess
import sys
import threading
import time

import pytest

from lspt_mm.errors import InputError
from lspt_mm.search import launcher as launchers
from lspt_mm.search.launcher import LOST, LocalLauncher, RayLauncher, SlurmLauncher

#: Notes when it is running and what it was told; ends with the code in its folder's name.
STAND_IN = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
running = folder.parent / 'running'
mine = running / folder.name
mine.touch()
time.sleep(0.3)
others = len(list(running.iterdir()))
told = [os.environ.get(k, '-') for k in ('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS')]
(folder / 'told').write_text(' '.join([str(others), *told]))
mine.unlink()
sys.exit(int(folder.name[-1]))
"""


@pytest.fixture
def folders(tmp_path, monkeypatch):
    def start(folder, env=None):
        command = [sys.executable, '-c', STAND_IN, str(folder)]
        return subprocess.Popen(command, env={**os.environ, **(env or {})})

    monkeypatch.setattr(launchers, 'start_worker', start)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    (tmp_path / 'running').mkdir()
    made = [tmp_path / f'run{i}' for i in (0, 3, 0, 0)]
    made = [f.with_name(f'{i}_{f.name}') for i, f in enumerate(made)]
    for folder in made:
        folder.mkdir()
    return made


def carried_out(launcher, folders):
    codes = {}
    launcher(folders, codes.__setitem__)
    assert [codes[f] for f in folders] == [0, 3, 0, 0]
    return [(f / 'told').read_text().split() for f in folders]


@pytest.mark.parametrize('jobs', [1, 3])
def test_so_many_at_once(folders, jobs):
    told = carried_out(LocalLauncher(jobs), folders)
    assert max(int(t[0]) for t in told) <= jobs


def test_cores_are_shared_out(folders, monkeypatch):
    monkeypatch.setattr(os, 'cpu_count', lambda: 7)
    assert {t[2] for t in carried_out(LocalLauncher(2), folders)} == {'3'}
    assert {t[2] for t in carried_out(LocalLauncher(1), folders)} == {'-'}
    monkeypatch.setenv('OMP_NUM_THREADS', '5')
    assert {t[2] for t in carried_out(LocalLauncher(2), folders)} == {'5'}


def test_gpus_are_spread_over(folders, monkeypatch):
    monkeypatch.setattr(launchers.torch.cuda, 'device_count', lambda: 2)
    launcher = LocalLauncher()
    assert launcher.jobs == 2
    assert {t[1] for t in carried_out(launcher, folders)} == {'0', '1'}
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '4,6')
    assert {t[1] for t in carried_out(LocalLauncher(4), folders)} == {'4', '6'}


def test_an_error_ends_what_runs(folders, monkeypatch):
    begun, start = [], launchers.start_worker
    monkeypatch.setattr(
        launchers, 'start_worker', lambda *args: begun.append(start(*args)) or begun[-1]
    )

    def on_done(folder, code):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalLauncher(2)(folders, on_done)
    assert all(process.poll() is not None for process in begun)
    # What was running was ended; on a slow machine both places may have gone on meanwhile.
    assert len(begun) < len(folders) or any(process.returncode < 0 for process in begun)


def test_what_is_just_being_started_is_ended_as_well(folders, monkeypatch):
    begun, interrupted = [], threading.Event()

    def start(folder, env=None):
        if begun:  # the second place is slow: it starts while the search is being interrupted
            interrupted.wait(10)
            time.sleep(0.5)
        seconds = 60 if begun else 0
        code = f'import time; time.sleep({seconds})'
        begun.append(subprocess.Popen([sys.executable, '-c', code]))
        return begun[-1]

    def on_done(folder, code):
        interrupted.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(launchers, 'start_worker', start)
    with pytest.raises(KeyboardInterrupt):
        LocalLauncher(2)(folders, on_done)
    assert len(begun) <= 2 and all(process.returncode < 0 for process in begun[1:])


@pytest.mark.parametrize(
    ('launcher', 'library'), [(SlurmLauncher, 'submitit'), (RayLauncher, 'ray')]
)
def test_a_missing_library_is_named(launcher, library, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=f'needs {library}: pip install {library}'):
        launcher(tmp_path) if launcher is SlurmLauncher else launcher()


def test_slurm_that_is_not_there(tmp_path, monkeypatch):
    pytest.importorskip('submitit')
    monkeypatch.setenv('PATH', '')
    with pytest.raises(InputError, match='--launcher slurm: '):
        SlurmLauncher(tmp_path)


def test_mistyped_options_of_slurm(tmp_path):
    pytest.importorskip('submitit')
    with pytest.raises(InputError, match='--launcher slurm: .*partitoin'):
        SlurmLauncher(tmp_path, options={'partitoin': 'gpu'}, cluster='local')


def empty_runs(tmp_path):
    """Runs without a config, which fail at once and say so in their logs."""
    made = [tmp_path / name for name in 'ab']
    for folder in made:
        folder.mkdir()
    return made


def check_failed(launcher, folders):
    codes = {}
    launcher(folders, codes.__setitem__)
    assert set(codes) == set(folders)
    for folder in folders:
        assert codes[folder] not in (0, LOST)
        assert 'config.py' in (folder / 'log.txt').read_text()


@pytest.mark.slow
def test_submitit_without_slurm(tmp_path):
    pytest.importorskip('submitit')
    launcher = SlurmLauncher(
        tmp_path / 'logs', options={'gpus_per_node': 0, 'timeout_min': 5}, cluster='local'
    )
    check_failed(launcher, empty_runs(tmp_path))


@pytest.mark.slow
def test_ray_on_this_machine(tmp_path):
    ray = pytest.importorskip('ray')
    try:
        check_failed(RayLauncher(1, {'num_cpus': 1}), empty_runs(tmp_path))
    finally:
        ray.shutdown()
