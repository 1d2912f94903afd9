"""The launcher: so many runs at once, a process for each place, exit codes kept apart."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import cloudpickle
import pytest
import submitit

from lspt_mm.errors import InputError
from lspt_mm.search import launcher as launchers
from lspt_mm.search.launcher import LOST, Launcher, run_by_submitit


class Note(NamedTuple):
    pid: str
    running: str
    gpu: str
    threads: str


def note(folder):
    """Stands in for a run: notes its surroundings, and ends as the folder's name says."""
    folder = Path(folder)
    running = folder.parent / 'running'
    (running / folder.name).touch()
    time.sleep(0.3)
    if (folder.parent / 'pair').is_dir() and folder.name[0] in 'ab':  # wait for each other
        (folder.parent / 'pair' / folder.name).touch()
        end = time.monotonic() + 60
        while len(list((folder.parent / 'pair').iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.02)
    names = 'CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS'
    found = [os.getpid(), len(list(running.iterdir())), *map(os.environ.get, names)]
    (folder / 'found').write_text(' '.join(map(str, found)))
    (running / folder.name).unlink()
    if folder.name.endswith('killed'):
        os.kill(os.getpid(), signal.SIGKILL)
    return int(folder.name[-1])


def sleep(folder):
    """Stands in for a run that takes long, but for the first; with a process of its own."""
    child = subprocess.Popen(['sleep', '100'])
    Path(folder, 'pid').write_text(f'{os.getpid()} {child.pid}')
    time.sleep(0 if folder.endswith('0') else 100)
    return 0


def launch_sleeping(folder):
    """Launch in a process that is to be killed."""
    launchers.work = sleep
    Launcher(folder / 'logs', jobs=1)([folder / 'b1'], lambda *_: None)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Starts ``work`` for folders of these names; returns exit codes and notes by name."""
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    (tmp_path / 'running').mkdir()
    return lambda work, names, on_done=None, **kwargs: run(
        tmp_path, monkeypatch, work, names, on_done, **kwargs
    )


def run(folder, monkeypatch, work, names, on_done, **kwargs):
    monkeypatch.setattr(launchers, 'work', work)
    for name in names:
        (folder / name).mkdir(exist_ok=True)
    codes = {}
    launcher = Launcher(folder / 'logs', **kwargs)
    for some in (names[:-1], names[-1:]):  # its processes stay for the next call
        launcher([folder / name for name in some], on_done or codes.__setitem__)
    found = {path.parent.name: Note(*path.read_text().split()) for path in folder.glob('*/found')}
    return {path.name: code for path, code in codes.items()}, found


def test_so_many_at_once_and_exit_codes_kept_apart(start, tmp_path):
    (tmp_path / 'pair').mkdir()
    codes, found = start(note, ['a0', 'b3', 'c0', 'd2'], jobs=2)
    assert codes == {'a0': 0, 'b3': 3, 'c0': 0, 'd2': 2}
    assert max(int(note.running) for note in found.values()) == 2
    assert len({note.pid for note in found.values()}) == 2


def test_one_process_for_all_runs_and_calls_until_it_dies(start, tmp_path):
    codes, found = start(note, ['a0', 'b0', 'c-killed', 'd0', 'e0'])
    assert codes == {'a0': 0, 'b0': 0, 'c-killed': LOST, 'd0': 0, 'e0': 0}
    pids = [found[name].pid for name in ('a0', 'b0', 'c-killed', 'd0', 'e0')]
    assert pids[0] == pids[1] == pids[2] != pids[3] == pids[4]
    assert {note.running for note in found.values()} == {'1'}
    assert 'killed by signal 9' in (tmp_path / 'c-killed/log.txt').read_text()


@pytest.mark.parametrize(
    ('jobs', 'given', 'threads'),
    [pytest.param(1, None, 'None', marks=pytest.mark.slow), (2, None, '3'),
     pytest.param(2, '5', '5', marks=pytest.mark.slow)],
)
def test_cores_are_shared_out(jobs, given, threads, start, monkeypatch):
    monkeypatch.setattr(os, 'cpu_count', lambda: 7)
    if given:
        monkeypatch.setenv('OMP_NUM_THREADS', given)
    _, found = start(note, ['a0', 'b0'], jobs=jobs)
    assert {note.threads for note in found.values()} == {threads}
    assert os.environ.get('OMP_NUM_THREADS') == given


@pytest.mark.slow
@pytest.mark.parametrize(
    ('visible', 'names'), [(None, {'0', '1'}), ('4,GPU-6', {'4', 'GPU-6'})]
)
def test_gpus_are_spread_over(visible, names, start, monkeypatch):
    monkeypatch.setattr(launchers.torch.cuda, 'device_count', lambda: 2)
    if visible:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', visible)
    _, found = start(note, ['a0', 'b0', 'c0'])
    assert {note.gpu for note in found.values()} == names


def test_an_interrupt_leaves_nothing_running(start, tmp_path):
    def interrupt(folder, code):
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        start(sleep, ['a0', 'b1', 'c1'], interrupt, jobs=2)
    assert time.monotonic() - began < 60  # the runs take 100 s
    assert len(list(tmp_path.glob('*/pid'))) <= 3
    assert_none_is_left(tmp_path)


@pytest.mark.slow
def test_a_script_without_a_guard_is_refused_at_its_first_run(tmp_path):
    (tmp_path / 'script.py').write_text(
        'from pathlib import Path\nfrom lspt_mm.search.launcher import Launcher\n'
        f'folders = [Path({str(tmp_path)!r}) / name for name in "ab"]\n'
        '[folder.mkdir(exist_ok=True) for folder in folders]\n'
        'Launcher("logs")(folders, print)\n'
    )
    command = [sys.executable, str(tmp_path / 'script.py')]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1 and not run.stdout
    assert run.stderr.splitlines()[-1].endswith("needs `if __name__ == '__main__':`")


@pytest.mark.slow
def test_a_run_ends_with_the_process_that_started_it(tmp_path):
    (tmp_path / 'b1').mkdir()
    parent = multiprocessing.get_context('spawn').Process(target=launch_sleeping, args=(tmp_path,))
    parent.start()
    while parent.is_alive() and not (tmp_path / 'b1' / 'pid').is_file():
        time.sleep(0.1)
    parent.kill()
    parent.join()
    assert_none_is_left(tmp_path)


def assert_none_is_left(folder):
    begun = [int(pid) for path in folder.glob('*/pid') for pid in path.read_text().split()]
    for _ in range(100):
        if not any(is_running(pid) for pid in begun):
            break
        time.sleep(0.1)
    assert begun and not any(is_running(pid) for pid in begun)


def is_running(pid):
    state = subprocess.run(['ps', '-o', 'stat=', '-p', str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ('', 'Z')


@pytest.mark.slow
def test_submitit_runs_each_in_a_process_of_its_own(tmp_path, monkeypatch):
    (tmp_path / 'running').mkdir()
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # no module of submitit's process
    monkeypatch.setattr(launchers, 'work', note)
    # So long submitit waits for the result of a process that was killed.
    monkeypatch.setattr(submitit.Job, '_results_timeout_s', 1)
    folders = [tmp_path / name for name in ('a0', 'b3', 'c-killed')]
    for folder in folders:
        folder.mkdir()
    executor, codes = submitit.AutoExecutor(tmp_path / 'logs', cluster='local'), {}
    try:
        run_by_submitit(executor, folders, codes.__setitem__)
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert codes == dict(zip(folders, (0, 3, LOST), strict=True))
    assert len({(folder / 'found').read_text().split()[0] for folder in folders}) == 3


def test_slurm_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', '')
    with pytest.raises(InputError, match='--launcher slurm: '):
        Launcher(tmp_path, 'slurm')


def test_mistyped_options(tmp_path):
    with pytest.raises(InputError, match='--launcher debug: .*partitoin'):
        Launcher(tmp_path, 'debug', options={'partitoin': 'gpu'})


@pytest.mark.slow
def test_a_run_that_fails_says_so_in_its_log(tmp_path):
    folder = tmp_path / 'without_config'
    folder.mkdir()
    codes = {}
    Launcher(tmp_path / 'logs')([folder], codes.__setitem__)
    assert codes[folder] not in (0, LOST)
    assert 'config.py' in (folder / 'log.txt').read_text()
