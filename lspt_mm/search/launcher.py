"""Execute runs by submitit, on this machine or on a SLURM cluster, each in its own process."""

import os
import signal
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Optional

import submitit
import torch

from lspt_mm.errors import InputError
from lspt_mm.search.worker import LOG, main

#: Exit code of a run whose process was lost.
LOST = -1


def work(folder: str, gpu: Optional[str] = None) -> int:
    """Execute the run of ``folder`` in this process, with a log; returns the exit code."""
    if gpu is not None:
        os.environ['CUDA_VISIBLE_DEVICES'] = gpu
    with open(Path(folder) / LOG, 'wb') as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        main(folder)
    except SystemExit as exit:
        return exit.code
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def end_with_parent(work: Callable[..., int], *args) -> int:
    """Call ``work``; exit at once when the parent process, submitit's, is gone.

    An interrupt can reach submitit while it starts this process, which would then be orphaned.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent != 1:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    return work(*args)


class Launcher:
    """Executes runs, several at once.

    Args:
        logs (Path): Folder for submitit's files; with SLURM on a shared file system, like the
            folders of the runs.
        cluster (str): 'local' or 'slurm'.
        jobs (int, optional): Number of runs at once. By default one for each GPU of this machine,
            or one; on SLURM all. On this machine the runs are spread over the GPUs; without GPUs
            they share the cores.
        options (dict, optional): submitit's parameters, such as ``slurm_partition``,
            ``timeout_min`` and ``gpus_per_node``.

    Raises:
        InputError: If there is no SLURM, and for an unknown parameter.
    """

    def __init__(
        self, logs: Path, cluster: str = 'local', jobs: Optional[int] = None,
        options: Optional[dict] = None,
    ):  # fmt: skip
        self.gpus: List[str] = []
        if cluster == 'local':
            self.gpus = _gpus()
            self.jobs = jobs or max(len(self.gpus), 1)
            defaults = {'timeout_min': 365 * 24 * 60}
        else:
            self.jobs = None
            defaults = {'gpus_per_node': 1, 'timeout_min': 24 * 60}
            if jobs is not None:
                defaults['slurm_array_parallelism'] = jobs
        try:
            self.executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
            self.executor.update_parameters(
                name='lspt_mm-search', **{**defaults, **(options or {})}
            )  # fmt: skip
        except (RuntimeError, NameError, TypeError) as error:
            raise InputError(f'--launcher {cluster}: {error}') from error

    def __call__(self, folders: Iterable[Path], on_done: Callable[[Path, int], None]) -> None:
        """Execute the runs, and call ``on_done(folder, exit code)`` after each."""
        waiting = list(folders)
        free = list(range(self.jobs or len(waiting)))
        running: Dict[submitit.Job, tuple] = {}
        submitted = None
        # Jobs are submitted in a thread, which a signal cannot interrupt half-way.
        with ThreadPoolExecutor(1) as pool:
            try:
                while waiting or running:
                    count = min(len(waiting), len(free))
                    places = {waiting.pop(0): free.pop(0) for _ in range(count)}
                    if places:
                        with _interruptible_children():
                            submitted = pool.submit(self._submit, places)
                            running.update(submitted.result())
                        submitted = None
                    time.sleep(0.1 if self.jobs else 2)
                    for job in [job for job in running if job.done()]:
                        folder, place = running.pop(job)
                        free.append(place)
                        on_done(folder, LOST if job.exception() else job.result())
            except BaseException:
                running.update(submitted.result() if submitted else {})
                for job in running:
                    job.cancel()
                for job in running if self.jobs else ():
                    job.wait()
                raise

    def _submit(self, places: Dict[Path, int]) -> Dict[submitit.Job, tuple]:
        """Start a run at each place; returns their jobs with folder and place."""
        before = os.environ.get('OMP_NUM_THREADS')
        if self.jobs and self.jobs > 1 and not self.gpus and before is None:
            os.environ['OMP_NUM_THREADS'] = str(max((os.cpu_count() or 1) // self.jobs, 1))
        try:
            with self.executor.batch():
                jobs = [
                    self.executor.submit(
                        end_with_parent, work, str(folder),
                        self.gpus[place % len(self.gpus)] if self.gpus else None,
                    )  # fmt: skip
                    for folder, place in places.items()
                ]
        finally:
            if before is None:
                os.environ.pop('OMP_NUM_THREADS', None)
        return dict(zip(jobs, places.items(), strict=True))


@contextmanager
def _interruptible_children() -> Iterator[None]:
    """Start child processes that react to SIGINT, even if this process ignores it.

    Background processes of a script ignore SIGINT, and their children inherit this. submitit stops
    a run by SIGINT.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _gpus() -> List[str]:
    """Names of this machine's GPUs, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    names = visible.split(',') if visible else map(str, range(torch.cuda.device_count()))
    return list(names)[: torch.cuda.device_count()]
