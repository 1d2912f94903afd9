"""Measure time, memory and FLOPs of benchmark cases, and the machine's rate in matrix products."""

import itertools
import multiprocessing
import os
import statistics
import time
from typing import Callable, Dict, List

import torch
from torch.profiler import ProfilerActivity, profile

from lspt_mm.analysis.flops import count_flops
from lspt_mm.utils.malloc import keep_freed_memory
from projects.benchmark.cases import PLAIN, Case, Step


class MatrixRate:
    """The machine's rate in a matrix product of a ViT's MLP, (B T, D) by (D, 4 D).

    Args:
        case: Gives B, the image size, precision and device; T is taken for patches of 16.
        width: D, the ViT's width.
    """

    def __init__(self, case: Case, width: int = 768):
        rows = case.batch * (case.img_size // 16) ** 2
        dtype = torch.bfloat16 if case.dtype == 'bf16' else torch.float32
        self.a = torch.randn(rows, width, dtype=dtype, device=case.device)
        self.b = torch.randn(4 * width, width, dtype=dtype, device=case.device)
        self.flops = 2 * rows * width * 4 * width
        self.device = case.device

    def __call__(self) -> float:
        """FLOPs per second, over about a fifth of a second."""
        repeats, elapsed = 1, 0.0
        while elapsed < 0.2:
            repeats *= 2
            start = _now(self.device)
            for _ in range(repeats):
                torch.nn.functional.linear(self.a, self.b)
            elapsed = _now(self.device) - start
        return repeats * self.flops / elapsed


def _now(device: str) -> float:
    if device == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter()


def measure_times(cases: List[Case], rounds: int = 5, warm_up: int = 2) -> List[Dict[str, float]]:
    """Seconds of a step of every case, and counted FLOPs.

    All cases run in turn, round by round, so that a machine that slows down slows all of them.

    Returns:
        list: for every case ``seconds`` (the median of the rounds), ``fastest``, ``slowest``,
        ``gflops`` of a step, ``rate`` (GFLOP/s of the matrix product, median of the same rounds)
        and ``fraction`` of it reached.
    """
    keep_freed_memory()  # as training does
    steps: List[Step] = [case.build() for case in cases]
    products = [(case.batch, case.img_size, case.dtype) for case in cases]
    rates = {p: MatrixRate(case) for p, case in zip(products, cases, strict=True)}
    for step in steps:
        for _ in range(warm_up):
            step()
    # Compiled blocks cannot be counted; the same case without does the same work.
    flops = [_flops_of(case, step) for case, step in zip(cases, steps, strict=True)]
    seconds: List[List[float]] = [[] for _ in cases]
    measured: Dict[tuple, List[float]] = {p: [] for p in rates}
    for _ in range(rounds):
        for product, rate in rates.items():
            measured[product].append(rate())
        for step, times in zip(steps, seconds, strict=True):
            # Once untimed, as in a run of many steps: memory is there, and what fits in the caches.
            step()
            start = _now(step.case.device)
            step()
            times.append(_now(step.case.device) - start)
    rows = []
    for times, work, product in zip(seconds, flops, products, strict=True):
        middle, rate = statistics.median(times), statistics.median(measured[product])
        rows.append(
            {
                'seconds': middle,
                'fastest': min(times),
                'slowest': max(times),
                'gflops': work / 1e9,
                'rate': rate / 1e9,
                'fraction': work / middle / rate,
            }
        )
    return rows


def _flops_of(case: Case, step: Step) -> int:
    if case.compile_blocks:
        step = Case(**{**case.settings(), 'compile_blocks': False, 'config': case.config}).build()
        step()
    return sum(count_flops(step).values())


def measure_memory(case: Case, steps: int = 2) -> Dict[str, float]:
    """Peak memory of a case's steps in bytes, in a process of its own.

    Returns:
        dict: ``peak``, and ``before`` the first step, with the model in memory; on a CPU of the
        whole process, Python, libraries and what the C library cannot use again included. And
        ``tensors``, the most that a step's tensors take beside those that were there before; on a
        GPU ``peak`` is the sum of ``before`` and this.
    """
    context = multiprocessing.get_context('spawn')
    with context.Pool(1) as pool:
        return pool.apply(_memory, (case, steps, torch.get_num_threads()))


def _memory(case: Case, steps: int, threads: int) -> Dict[str, float]:
    torch.set_num_threads(threads)
    keep_freed_memory()
    step = case.build()
    if case.device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        before = resident()
    for _ in range(steps):
        step()
    if case.device == 'cuda':
        peak = torch.cuda.max_memory_allocated()
        tensors = peak - before
    else:
        peak, tensors = peak_resident(), peak_of_tensors(step)
    return {'peak': float(peak), 'before': float(before), 'tensors': float(tensors)}


def peak_of_tensors(step: Callable[[], object]) -> int:
    """The most bytes that tensors which ``step`` makes on the CPU take at a time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    # The averages that the profiler shows know sums alone; its events know the order.
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == '[memory]']
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate((event.nbytes() for event in events), initial=0))


def resident() -> int:
    """Bytes of this process in memory (Linux)."""
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def peak_resident() -> int:
    """The most bytes this program has had in memory so far (Linux).

    Not ``ru_maxrss``, which begins with what the parent process had.
    """
    with open('/proc/self/status') as file:
        (line,) = (line for line in file if line.startswith('VmHWM:'))
    return int(line.split()[1]) * 1024


def relative_to_plain(rows: List[dict]) -> None:
    """Add ``times``: a row's seconds in units of the plain ViT's on the same images, if it ran."""
    same = ('training', 'batch', 'img_size', 'arch', 'num_layers', 'dtype', 'device')

    def images(row):
        return [row[name] for name in same]

    for row in rows:
        base = [r['seconds'] for r in rows if r['name'] == PLAIN and images(r) == images(row)]
        row['times'] = row['seconds'] / base[0] if base else float('nan')
