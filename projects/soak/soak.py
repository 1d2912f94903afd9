"""Kill a training run many times and compare its end with that of a run left alone.

python -m lspt_mm soak runs/road/transfer.py --kills 50 --out work_dirs/soak -- --random-backbone

Arguments after ``--`` go to tools/train.py. The end of the run (weights, optimizer, schedules,
log) has to be the same to the bit; exit code 1 if it is not.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import List

from lspt_mm.config.paths import tools_dir
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser

EVERY_LINE = ('default_hooks.run_log.interval=1',)


def parse_args() -> argparse.Namespace:
    """Options of the soak."""
    own, rest = sys.argv[1:], []
    if '--' in own:
        own, rest = own[: own.index('--')], own[own.index('--') + 1 :]
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='as in tools/train.py')
    parser.add_argument('--kills', type=int, default=20, help='default: 20')
    parser.add_argument('--seed', type=int, default=0, help='seed of the moments; default: 0')
    parser.add_argument('--out', type=Path, required=True, help='folder for both runs; replaced')
    args = parser.parse_args(own)
    args.train = rest
    return args


def starter(args: argparse.Namespace, work_dir: Path, log: Path):
    """A function that starts or resumes a run."""
    train = list(args.train)
    if '--cfg-options' in train:
        at = train.index('--cfg-options') + 1
        train[at:at] = EVERY_LINE
    else:
        train += ['--cfg-options', *EVERY_LINE]
    train_py = str(tools_dir() / 'train.py')
    command = [sys.executable, train_py, args.config, '--work-dir', str(work_dir), '--resume']

    def start() -> subprocess.Popen:
        with log.open('ab') as file:
            return subprocess.Popen(
                [*command, *train], stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    return start


def differences(left: tuple, right: tuple) -> List[str]:
    """Names of the parts in which two runs' final states differ."""
    return [name for name in left._fields if getattr(left, name) != getattr(right, name)]


def main() -> None:
    """Run, kill, compare."""
    args = parse_args()
    # Shells start background processes with SIGINT ignored, which the runs would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with input_errors_as_messages(args.debug):
        from projects.soak.rounds import done_iterations, ended, soak

        if args.kills < 1:
            raise InputError(f'--kills {args.kills}: expected at least 1')
        whole, killed = args.out / 'whole', args.out / 'killed'
        if args.out.exists() and not {p.name for p in args.out.iterdir()} <= {
            'whole', 'killed', 'whole.txt', 'killed.txt', 'soak.json'
        }:
            raise InputError(f'--out {args.out}: not a folder of a soak; it would be emptied')
        shutil.rmtree(args.out, ignore_errors=True)
        args.out.mkdir(parents=True)
        begun = time.time()
        code = starter(args, whole, args.out / 'whole.txt')().wait()
        if code:
            raise InputError(
                f'the run by itself ends with code {code}; see {args.out / "whole.txt"}'
            )
        iterations = done_iterations(whole)
        print(f'uninterrupted: {iterations} iterations, {time.time() - begun:.0f} s', flush=True)
        counts = soak(
            starter(args, killed, args.out / 'killed.txt'), killed, iterations, args.kills,
            random.Random(args.seed),
        )
        different = differences(ended(whole), ended(killed))
        report = {
            **counts, 'iterations': iterations, 'seconds': round(time.time() - begun),
            'differences': different,
        }
    (args.out / 'soak.json').write_text(json.dumps(report, indent=1) + '\n')
    print(json.dumps(report, indent=1))
    sys.exit(bool(different))


if __name__ == '__main__':
    main()
