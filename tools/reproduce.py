"""Run the experiments of the tables: the small ones of this project, or those of the papers.

    python tools/reproduce.py small --data DATA --pretrained FILE --jobs 2
    python tools/reproduce.py small ... --methods vpt-deep lspt --tasks eurosat drive
    python tools/reproduce.py paper --methods lspt gated --dry-run
    python tools/reproduce.py paper --methods lspt gated --jobs 8

`small`: docs/protocol.md, a ViT-S/14 of DINOv2 on seven data sets. `paper`: FGVC, VTAB-1K and
ADE20K at full scale (docs/reproducing.md). After a kill, the same command goes on; finished runs
are not repeated.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, List

from lspt_mm.config.options import at_least_one
from lspt_mm.config.paths import config_names, tools_dir
from lspt_mm.errors import InputError
from lspt_mm.recipes.methods import METHODS
from lspt_mm.recipes.pretrainings import PRETRAININGS
from lspt_mm.search.small_plan import RATES, TASKS
from lspt_mm.utils.atomic_io import write_text
from lspt_mm.utils.cli import check_writable, input_errors_as_messages

if TYPE_CHECKING:
    from lspt_mm.search.small_tables import SmallTables


def parse_args() -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    scales = parser.add_subparsers(dest='scale', required=True)
    small = scales.add_parser('small', help='seven small data sets, one ViT-S/14')
    small.add_argument('--data', required=True, help='folder of the prepared data (docs/protocol)')
    small.add_argument('--pretrained', required=True, help='file of the ViT')
    small.add_argument('--tasks', nargs='+', choices=TASKS, default=list(TASKS), metavar='NAME')
    small.add_argument('--methods', nargs='+', choices=RATES, default=list(RATES), metavar='NAME')
    small.add_argument('--work-dir', type=Path, default=Path('work_dirs/small'))
    paper = scales.add_parser('paper', help='FGVC, VTAB-1K and ADE20K on ViT-B/16')
    paper.add_argument(
        '--methods', nargs='+', choices=METHODS, default=['vpt', 'vpt-deep', 'gated', 'lspt'],
        metavar='NAME',
    )
    paper.add_argument(
        '--pretraining', nargs='+', choices=PRETRAININGS, default=['mae', 'mocov3'], metavar='NAME'
    )
    for one in (small, paper):
        one.add_argument(
            '--jobs', type=at_least_one, help='runs at once (default: one per GPU, or one)'
        )
        one.add_argument('--dry-run', action='store_true', help='list the runs and stop')
        one.add_argument('--debug', action='store_true', help='show tracebacks of input errors')
    return parser.parse_args()


def reproduce_small(args: argparse.Namespace) -> None:
    """Choose rates, then train three seeds, method by method; tables after each."""
    from rich.console import Console

    from lspt_mm.engine.work_dir import lock_work_dir
    from lspt_mm.search.launcher import Launcher
    from lspt_mm.search.small_tables import SmallTables

    console = Console(stderr=True)
    tables = SmallTables(args.work_dir, args.data, args.pretrained, args.tasks, args.methods)
    if args.dry_run:
        for run in tables.all_runs():
            print(run.name, '' if tables.score(run) is None else tables.score(run))
        return
    check_writable(args.work_dir, f'--work-dir {args.work_dir}')
    lock = lock_work_dir(str(args.work_dir))
    tables.check_inputs()
    launcher = Launcher(args.work_dir / 'submitit', jobs=args.jobs)
    failed = []

    def on_done(run, code: int) -> None:
        score = tables.score(run)
        if score is None:
            failed.append(run)
        console.print(f'{run.name}: {"failed" if score is None else score}', highlight=False)
        write_tables(tables, args.work_dir)

    tables.run(tables.controls(), launcher, on_done)
    for method in args.methods:  # so that every finished method is in the tables
        while todo := [run for run in tables.selection(method)
                       if tables.score(run) is None and run not in failed]:
            tables.run(todo, launcher, on_done)  # more rates may follow
        tables.run(tables.final(method), launcher, on_done)
    longer = [run for method in args.methods for run in tables.longer(method)]
    tables.run(longer, launcher, on_done)
    print(write_tables(tables, args.work_dir))
    lock.release()
    if failed:
        names = '\n  '.join(str(tables.path(run)) for run in failed)
        raise InputError(f'{len(failed)} runs failed (log.txt in the folder):\n  {names}')


def write_tables(tables: SmallTables, folder: Path) -> str:
    """Write results.csv and tables.md; returns the latter's text."""
    from lspt_mm.search.summary import tables_of

    text = tables_of(tables.write())
    write_text(folder / 'tables.md', text)
    return text


def ade20k_config(method: str) -> str:
    """UPerNet on ADE20K with MAE's ViT, 160k iterations: a config of its own, or arguments."""
    name = f'{"" if method == "lspt" else "ade20k/"}{method}_upernet_ade20k'
    if name in config_names():
        return f'{name}.py'
    method = 'frozen' if method == 'linear' else method
    return (f'ade20k/transfer.py:pretrained={PRETRAININGS["mae"].pretrained},head=upernet,'
            f'iters=160000,method={method}')


def exit_code(line: List[str]) -> int:
    """Run a command. A signal to this process is passed on: a run saves a checkpoint and ends."""
    from lspt_mm.engine.hooks.preemption_hook import EXIT_STOPPED

    child = subprocess.Popen(line)
    try:
        return child.wait()
    except (KeyboardInterrupt, SystemExit):
        child.terminate()
        if child.wait() == EXIT_STOPPED:
            sys.exit(EXIT_STOPPED)
        raise


def reproduce_paper(args: argparse.Namespace) -> None:
    """Run every experiment's own command; those without data or weights are named at the end."""
    from lspt_mm.engine.hooks.preemption_hook import EXIT_STOPPED
    from lspt_mm.recipes import BENCHMARKS

    jobs = [] if args.jobs is None else ['--jobs', str(args.jobs)]
    commands = [
        ['search.py', f'{benchmark}/{method}_{pretraining}_{task}', '--amp', *jobs]
        for benchmark in ('fgvc', 'vtab1k')
        for method in args.methods
        for pretraining in args.pretraining
        for task in BENCHMARKS[benchmark]
    ]
    for method in args.methods:
        commands.append(['train.py', ade20k_config(method), '--amp', '--resume'])
    failed = []
    for command in commands:
        line = [sys.executable, str(tools_dir() / command[0]), *command[1:]]
        print(shlex.join(['python', f'tools/{command[0]}', *command[1:]]), flush=True)
        code = 0 if args.dry_run else exit_code(line)
        if code == EXIT_STOPPED:  # by a signal of its own; it has saved a checkpoint
            sys.exit(code)
        if code:
            failed.append(command[1])
    if failed:
        raise InputError(f'{len(failed)} of {len(commands)} did not end well: {" ".join(failed)}')


def main() -> None:
    """Reproduce."""
    args = parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with input_errors_as_messages(args.debug):
        reproduce_small(args) if args.scale == 'small' else reproduce_paper(args)


if __name__ == '__main__':
    main()
