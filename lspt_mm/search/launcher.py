"""Carrying out runs: on this machine, by SLURM, by Ray. Each run is a process of its own."""

import os
import queue
import subprocess
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Optional

import torch

from lspt_mm.errors import InputError
from lspt_mm.search.worker import LOG

#: Told a run's folder and its exit code.
OnDone = Callable[[Path, int], None]
#: The exit code that stands for a run whose process was lost.
LOST = -1


def start_worker(folder: str, env: Optional[Dict[str, str]] = None) -> subprocess.Popen:
    """Begin the run of ``folder`` in a new process, its output in a log."""
    with open(Path(folder) / LOG, 'wb') as log:
        return subprocess.Popen(
            [sys.executable, '-m', 'lspt_mm.search.worker', str(folder)],
            stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})},
        )  # fmt: skip


def work(folder: str) -> int:
    """Carry out the run of ``folder``; the exit code. What SLURM and Ray call on their machines."""
    return start_worker(folder).wait()


class LocalLauncher:
    """So many runs at once on this machine.

    Args:
        jobs (int, optional): How many; by default one for each GPU, or one. With GPUs, runs are
            spread over them; without, the cores are shared out.
    """

    def __init__(self, jobs: Optional[int] = None):
        self.gpus = torch.cuda.device_count()
        self.jobs = jobs or max(self.gpus, 1)

    def __call__(self, folders: Iterable[Path], on_done: OnDone) -> None:
        """Carry out all runs; returns when the last one has ended."""
        places, children = queue.SimpleQueue(), []
        starting, stopped = threading.Lock(), threading.Event()
        for job in range(self.jobs):
            places.put(self.environment(job))

        def one(folder: Path) -> int:
            env = places.get()
            try:
                with starting:
                    if stopped.is_set():
                        return LOST
                    child = start_worker(folder, env)
                    children.append(child)
                return child.wait()
            finally:
                places.put(env)

        pool = ThreadPoolExecutor(self.jobs)
        folder_of = {pool.submit(one, folder): folder for folder in folders}
        pending = set(folder_of)
        try:
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    on_done(folder_of[future], future.result())
        except BaseException:  # an interrupted search leaves nothing running
            for future in pending:
                future.cancel()
            stopped.set()
            with starting:  # whoever was about to start a process has done so, or never will
                for process in children:
                    process.terminate()
            raise
        finally:
            pool.shutdown()

    def environment(self, job: int) -> Dict[str, str]:
        """What the processes of place ``job`` (from 0) are told of GPUs and threads."""
        if self.gpus:
            visible = os.environ.get('CUDA_VISIBLE_DEVICES')
            ids = visible.split(',') if visible else [str(i) for i in range(self.gpus)]
            return {'CUDA_VISIBLE_DEVICES': ids[job % len(ids)]}
        if self.jobs > 1 and 'OMP_NUM_THREADS' not in os.environ:
            return {'OMP_NUM_THREADS': str(max((os.cpu_count() or 1) // self.jobs, 1))}
        return {}


class SlurmLauncher:
    """Runs as a SLURM job array, by submitit; the folders must be on a shared file system.

    Args:
        logs (Path): Folder for submitit's files.
        jobs (int, optional): At most so many at once.
        options (dict): submitit's parameters, such as ``slurm_partition``, ``timeout_min`` and
            ``gpus_per_node``.
        cluster (str): Submitit's; 'local' runs without SLURM, to try out.
    """

    def __init__(
        self, logs: Path, jobs: Optional[int] = None, options: Optional[dict] = None,
        cluster: str = 'slurm',
    ):  # fmt: skip
        submitit = _library('submitit', 'slurm')
        options = {'gpus_per_node': 1, 'timeout_min': 24 * 60, **(options or {})}
        try:
            self.executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
            if jobs is not None and cluster == 'slurm':
                options['slurm_array_parallelism'] = jobs
            self.executor.update_parameters(name='lspt_mm-search', **options)
        except (RuntimeError, NameError, TypeError) as error:
            raise InputError(f'--launcher slurm: {error}') from error

    def __call__(self, folders: Iterable[Path], on_done: OnDone) -> None:
        """Carry out all runs; returns when the last one has ended."""
        folders = list(folders)
        with self.executor.batch():
            jobs = [self.executor.submit(work, str(folder)) for folder in folders]
        pending = dict(zip(jobs, folders, strict=True))
        try:
            while pending:
                for job in [job for job in pending if job.done()]:
                    error = job.exception()
                    on_done(pending.pop(job), LOST if error else job.result())
                time.sleep(2)
        except BaseException:
            for job in pending:
                job.cancel()
            raise


class RayLauncher:
    """Runs as Ray tasks; the folders must be on a shared file system.

    Args:
        jobs (int, optional): At most so many at once; by default what Ray's resources allow.
        options (dict): ``address`` of the cluster (none: this machine), and arguments of
            ``ray.remote`` such as ``num_gpus`` and ``num_cpus`` of each run.
    """

    def __init__(self, jobs: Optional[int] = None, options: Optional[dict] = None):
        self.ray = _library('ray', 'ray')
        options = dict(options or {})
        self.ray.init(
            address=options.pop('address', None), ignore_reinit_error=True, include_dashboard=False
        )
        if 'num_gpus' not in options:
            options['num_gpus'] = 1 if self.ray.cluster_resources().get('GPU') else 0
        self.jobs = jobs
        self.work = self.ray.remote(max_retries=0, **options)(work)

    def __call__(self, folders: Iterable[Path], on_done: OnDone) -> None:
        """Carry out all runs; returns when the last one has ended."""
        waiting: List[Path] = list(folders)
        running = {}
        try:
            while waiting or running:
                while waiting and (self.jobs is None or len(running) < self.jobs):
                    folder = waiting.pop(0)
                    running[self.work.remote(str(folder))] = folder
                done, _ = self.ray.wait(list(running), num_returns=1)
                for task in done:
                    try:
                        code = self.ray.get(task)
                    except self.ray.exceptions.RayError:
                        code = LOST
                    on_done(running.pop(task), code)
        except BaseException:
            for task in running:
                self.ray.cancel(task, force=True)
            raise


def _library(name: str, launcher: str):
    try:
        return __import__(name)
    except ImportError as error:
        raise InputError(f'--launcher {launcher} needs {name}: pip install {name}') from error
