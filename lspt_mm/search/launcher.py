"""Execute the runs of a search: in a process for each GPU here, or by submitit on a cluster."""

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional

import torch

from lspt_mm.errors import InputError

#: Exit code of a run whose process was lost.
LOST = -1
#: A run's output, in its folder.
LOG = 'log.txt'
#: Called with a run's folder and exit code.
OnDone = Callable[[Path, int], None]


def work(folder: str) -> int:
    """Execute the run of ``folder`` in this process, with a log; returns the exit code."""
    # Not needed to launch runs.
    from lspt_mm.search.process_state import restore_process_state
    from lspt_mm.search.worker import main

    with open(Path(folder) / LOG, 'wb') as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        with restore_process_state():
            main(folder)
        return 0
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    finally:  # before the next run's log takes its place
        sys.stdout.flush()
        sys.stderr.flush()


def serve(runs: Connection, gpu: Optional[str], work: Callable[[str], int]) -> None:
    """Execute the runs whose folders arrive, one after the other; answer with exit codes."""
    os.setsid()  # a group of its own, which is killed with the workers of its loaders
    threading.Thread(target=_end_with_parent, daemon=True).start()
    multiprocessing.set_start_method(None, force=True)  # of the loaders: not as this process
    if gpu is not None:
        os.environ['CUDA_VISIBLE_DEVICES'] = gpu
    with suppress(EOFError):
        while True:
            runs.send(work(runs.recv()))


def _end_with_parent() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os.killpg(0, signal.SIGKILL)


class Launcher:
    """Executes runs, several at once.

    On this machine, each place (a GPU, or a share of the cores) has one process that executes run
    after run, so that imports and decoded images are shared. If it dies, the run that it was at is
    lost, and a new process takes the next. The processes end with the launcher. They import the
    script that starts them, so that it needs ``if __name__ == '__main__':``. On SLURM each run is a
    job.

    Args:
        logs (Path): Folder for submitit's files, with SLURM; on a shared file system, like the
            folders of the runs.
        cluster (str): 'local' or 'slurm'.
        jobs (int, optional): Number of runs at once. By default one for each GPU of this machine,
            or one; on SLURM all. On this machine the runs are spread over the GPUs; without GPUs
            they share the cores.
        options (dict, optional): submitit's parameters for SLURM, such as ``slurm_partition``,
            ``timeout_min`` and ``gpus_per_node``.

    Raises:
        InputError: If there is no SLURM, and for an unknown parameter.
    """

    def __init__(
        self, logs: Path, cluster: str = 'local', jobs: Optional[int] = None,
        options: Optional[dict] = None,
    ):
        self.executor = None
        if cluster == 'local':
            gpus = _gpus()
            jobs = jobs or max(len(gpus), 1)
            threads = None if gpus or jobs == 1 else max((os.cpu_count() or 1) // jobs, 1)
            self.places = [
                _Place(gpus[i % len(gpus)] if gpus else None, threads) for i in range(jobs)
            ]
            # Before multiprocessing waits for the processes, at the exit of this one.
            Finalize(self, _close, args=(self.places,), exitpriority=1)
        else:
            self.executor = _slurm(logs, cluster, jobs, options or {})

    def __call__(self, folders: Iterable[Path], on_done: OnDone) -> None:
        """Execute the runs, and call ``on_done(folder, exit code)`` after each."""
        if self.executor is None:
            self._run_here(list(folders), on_done)
        else:
            run_by_submitit(self.executor, list(folders), on_done)

    def _run_here(self, waiting: List[Path], on_done: OnDone) -> None:
        places = self.places
        try:
            while waiting or any(place.folder for place in places):
                for place in places:
                    if place.folder is None and waiting:
                        place.start(waiting.pop(0))
                # The time is for a process that died: its loaders' workers hold the pipe open.
                wait([place.runs for place in places if place.folder], timeout=1)
                for place in places:
                    folder, code = place.folder, place.poll()
                    if code is not None:
                        on_done(folder, code)
        except BaseException:
            _close(places)
            raise


class _Place:
    """A process that executes one run at a time; it is started with the first."""

    def __init__(self, gpu: Optional[str], threads: Optional[int]):
        self.gpu, self.threads = gpu, threads
        self.process, self.runs = None, None
        #: The run that it is at.
        self.folder: Optional[Path] = None

    def start(self, folder: Path) -> None:
        """Execute a run."""
        if self.process is None or not self.process.is_alive():
            self.close()
            # Not forked: CUDA and OpenMP do not survive that.
            context = multiprocessing.get_context('spawn')
            self.runs, theirs = context.Pipe()
            self.process = context.Process(target=serve, args=(theirs, self.gpu, work))
            with theirs, _threads(self.threads):
                self.process.start()
        (folder / LOG).unlink(missing_ok=True)  # that of an earlier attempt
        self.runs.send(str(folder))
        self.folder = folder

    def poll(self) -> Optional[int]:
        """The exit code of the run if it has ended."""
        if self.folder is None:
            return None
        alive = self.process.is_alive()
        try:
            code = self.runs.recv() if self.runs.poll() else None if alive else LOST
        except (EOFError, OSError):
            code = LOST
        if code == LOST:
            self._explain()
            self.close()
        elif code is not None:
            self.folder = None
        return code

    def _explain(self) -> None:
        """Write into the run's log how its process ended, or raise InputError if it never began."""
        self.process.join(10)
        ended, log = self.process.exitcode or 0, self.folder / LOG
        if not log.is_file() and ended > 0:
            raise InputError(
                'the process of the runs ended before the first one, as the message above says; '
                "a script that starts runs needs `if __name__ == '__main__':`"
            )
        how = f'was killed by signal {-ended}' if ended < 0 else f'ended with code {ended}'
        memory = ' (9 is that of a machine without memory left)' if ended == -9 else ''
        with open(log, 'a', encoding='utf-8') as file:
            file.write(f'\nthe process of this run {how}{memory}\n')

    def close(self) -> None:
        """End the process, with the workers of its loaders."""
        if self.process is not None and self.process.pid is not None:
            with suppress(ProcessLookupError):  # before its setsid()
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.process.join()
        if self.runs is not None:
            self.runs.close()
        self.process = self.runs = self.folder = None


def _close(places: List[_Place]) -> None:
    for place in places:
        place.close()


@contextmanager
def _threads(count: Optional[int]) -> Iterator[None]:
    """Give new processes this number of threads, unless the user has set one."""
    if count is None or 'OMP_NUM_THREADS' in os.environ:
        yield
        return
    os.environ['OMP_NUM_THREADS'] = str(count)
    try:
        yield
    finally:
        del os.environ['OMP_NUM_THREADS']


def _gpus() -> List[str]:
    """Names of this machine's GPUs, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    names = visible.split(',') if visible else map(str, range(torch.cuda.device_count()))
    return list(names)[: torch.cuda.device_count()]


def _slurm(logs: Path, cluster: str, jobs: Optional[int], options: dict):
    """submitit's executor."""
    import submitit

    defaults = {'gpus_per_node': 1, 'timeout_min': 24 * 60}
    if jobs is not None:
        defaults['slurm_array_parallelism'] = jobs
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
        executor.update_parameters(name='lspt_mm-search', **{**defaults, **options})
    except (RuntimeError, NameError, TypeError) as error:
        raise InputError(f'--launcher {cluster}: {error}') from error
    return executor


def run_by_submitit(executor, folders: List[Path], on_done: OnDone) -> None:
    """Submit all runs at once, each as a job of its own, and wait for them.

    Args:
        executor: Of submitit.
        folders: Of the runs.
        on_done: Called after each.
    """

    def submit() -> Dict[Any, Path]:
        with executor.batch():
            jobs = [executor.submit(work, str(folder)) for folder in folders]
        return dict(zip(jobs, folders, strict=True))

    # In a thread, which a signal cannot interrupt half-way.
    with ThreadPoolExecutor(1) as pool:
        submission = pool.submit(submit)
        try:
            running = submission.result()
            while running:
                time.sleep(2)
                for job in [job for job in running if job.done()]:
                    folder = running.pop(job)
                    on_done(folder, LOST if job.exception() else job.result())
        except BaseException:
            for job in submission.result():  # those that still run
                job.cancel()
            raise
