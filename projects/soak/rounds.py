"""Kill a training run repeatedly, and compare its end with an uninterrupted one."""

import random
import signal
import time
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Tuple

from lspt_mm.engine.hooks.jsonl_logger_hook import read_log
from lspt_mm.engine.hooks.preemption_hook import EXIT_STOPPED
from lspt_mm.engine.work_dir import latest_checkpoint
from projects.soak.digests import checkpoint_digest, log_digest

KILL, TERM, INT = (int(s) for s in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
#: A process that does nothing for so many seconds has hung.
PATIENCE = 600


class Ended(NamedTuple):
    """The final state of a run."""

    checkpoint: str
    weights: str
    log: str


def ended(work_dir: Path) -> Ended:
    """Name of the last checkpoint of a finished run, and digests of it and of the log."""
    path = latest_checkpoint(str(work_dir))
    if path is None:
        return Ended('', '', log_digest(work_dir))
    return Ended(Path(path).name, checkpoint_digest(path), log_digest(work_dir))


def soak(
    start: Callable, work_dir: Path, iterations: int, kills: int, rng: random.Random
) -> Dict[str, int]:
    """Run to the end, with ``kills`` interruptions by a signal on the way.

    Every attempt is ended at a random moment: after an iteration that is not done yet, or, where
    that one is done already, while it starts. Three in five get SIGKILL, the others SIGTERM or
    SIGINT.

    Args:
        start: Starts or resumes the run; returns an object with ``pid``, ``poll()`` (None while it
            runs) and ``send_signal(number)``.
        work_dir: Folder of the run; iterations are read off its log.
        iterations: How many the run has.
        kills: How often to end it before it is left alone.
        rng: Random numbers of the moments.

    Returns:
        dict: 'kills' (by SIGKILL), 'stops' (by another signal), 'attempts',
        'finished_early' (1 if the run was done before it had been ended so often).

    Raises:
        RuntimeError: If an attempt ends by itself with an error, or hangs.
    """
    counts = dict(kills=0, stops=0, attempts=0, finished_early=0)
    while True:
        ending = counts['kills'] + counts['stops'] < kills
        before = done_iterations(work_dir)
        process = start()
        counts['attempts'] += 1
        if ending:
            # Aims at the next iterations, so that the run outlives all attempts.
            left = kills - counts['kills'] - counts['stops']
            wanted = before + rng.randint(-2, max(1, (iterations - before) // left))
            _wait(process, work_dir, max(wanted, 0), rng.uniform(0, 0.05))
        number = rng.choice((KILL, KILL, KILL, TERM, INT)) if ending else None
        alive = process.poll() is None
        if ending and alive:
            process.send_signal(number)
        code = _join(process)
        signalled = number if alive else None
        print(f'attempt {counts["attempts"]}: signal {signalled}, exit code {code}', flush=True)
        if code == 0:
            counts['finished_early'] += ending
            return counts
        starting = done_iterations(work_dir) == before
        if ending and alive and code == -KILL:
            counts['kills'] += 1
        elif ending and alive and code in stopped_codes(number, starting):
            counts['stops'] += 1
        else:
            raise RuntimeError(f'attempt {counts["attempts"]} ended with code {code}')


def stopped_codes(number: int, starting: bool) -> Tuple[int, ...]:
    """Exit codes that a run may have after signal ``number``, while it starts or later."""
    if number == KILL:
        return ()
    # Imports of C extensions make an ImportError of a KeyboardInterrupt.
    interrupted_import = (1,) if number == INT and starting else ()
    return (EXIT_STOPPED, -TERM, -INT, 130, *interrupted_import)


def done_iterations(work_dir: Path) -> int:
    """Iterations that a run's log says are done."""
    return max((line['iter'] for line in read_log(work_dir)), default=0)


def _wait(process, work_dir: Path, wanted: int, more: float) -> None:
    begun = time.monotonic()
    while process.poll() is None and done_iterations(work_dir) < wanted:
        if time.monotonic() - begun > PATIENCE:
            process.send_signal(KILL)
            raise RuntimeError(f'no progress to iteration {wanted} in {PATIENCE} seconds')
        time.sleep(0.01)
    time.sleep(more)


def _join(process) -> int:
    """Exit code."""
    begun = time.monotonic()
    while process.poll() is None:
        if time.monotonic() - begun > PATIENCE:
            process.send_signal(KILL)
            raise RuntimeError(f'has not ended in {PATIENCE} seconds')
        time.sleep(0.02)
    return process.poll()
