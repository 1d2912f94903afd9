"""Curves and a table of any number of runs: losses, learning rates, validation results.

python tools/analysis_tools/analyze_logs.py work_dirs/a work_dirs/b --out curves
python tools/analysis_tools/analyze_logs.py work_dirs/* --keys loss mIoU
python tools/analysis_tools/analyze_logs.py work_dirs/a/20261121_120000/vis_data/scalars.json

A run is a work dir with a `log.jsonl` of this library, which continues over interruptions; or a log
of MMEngine's (`scalars.json` or `TIME.json`), one for every start of a run. Prints the last, lowest
and highest value of each key, and with --out writes OUT.csv and OUT.png. For curves of
hyper-parameter searches name SEARCH/selection/*/run.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Dict, List, Tuple

from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser
from lspt_mm.utils.text import format_table

Curve = List[Tuple[int, float]]
Curves = Dict[Tuple[str, str], Curve]


def parse_args() -> argparse.Namespace:
    """Options."""
    parser = tool_parser(__doc__)
    parser.add_argument('runs', nargs='+', type=Path, help='work dirs, or files of logs')
    parser.add_argument(
        '--keys', nargs='+',
        help='what to show, such as loss, lr, mIoU, accuracy/top1; default: the loss and all '
        'results of validations',
    )
    parser.add_argument('--names', nargs='+', help='names of the runs; default: their paths')
    parser.add_argument('--out', help='path of the files to write, without suffix')
    return parser.parse_args()


def collect(args: argparse.Namespace) -> Curves:
    """Curves by name of the run and key."""
    from lspt_mm.analysis.logs import curves_of_log, default_keys

    names = args.names or [str(path) for path in args.runs]
    if len(names) != len(args.runs) or len(set(names)) != len(names):
        raise InputError(f'{len(args.runs)} runs need as many different names; got {names}')
    logs, without = {}, []
    for name, path in zip(names, args.runs, strict=True):
        try:
            logs[name] = curves_of_log(path)
        except InputError as error:
            without.append(error)
    if not logs:
        raise without[0]
    for error in without:  # work_dirs/* has other folders as well
        print(f'left out: {error}', file=sys.stderr)
    known = sorted({key for log in logs.values() for key in log})
    for key in args.keys or []:
        if key not in known:
            raise InputError(f'--keys {key}: in none of the logs, which have: {", ".join(known)}')
    keys = args.keys or default_keys(known)
    return {(name, key): log[key] for key in keys for name, log in logs.items() if key in log}


def table(curves: Curves) -> str:
    """Last, lowest and highest value of every curve."""
    rows = [('run', 'key', 'values', 'last', 'at', 'lowest', 'at', 'highest', 'at')]
    for (name, key), curve in curves.items():
        last = curve[-1]
        low, high = (pick(curve, key=lambda point: point[1]) for pick in (min, max))
        cells = [f'{x:g}' for at, value in (last, low, high) for x in (value, at)]
        rows.append((name, key, str(len(curve)), *cells))
    return format_table(rows, '<' * len(rows[0]))


def write_csv(curves: Curves, path: Path) -> None:
    """A row per value."""
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(['run', 'key', 'iteration', 'value'])
        for (name, key), curve in curves.items():
            writer.writerows([name, key, at, value] for at, value in curve)


def by_key(curves: Curves) -> Dict[str, Dict[str, Curve]]:
    """The same, by key and then by name."""
    found: Dict[str, Dict[str, Curve]] = {}
    for (name, key), curve in curves.items():
        found.setdefault(key, {})[name] = curve
    return found


def main() -> None:
    """Print the table, and write the curves."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        from lspt_mm.analysis.visualization import draw_curves

        curves = collect(args)
        print(table(curves))
        if args.out:
            Path(args.out).parent.mkdir(parents=True, exist_ok=True)
            write_csv(curves, Path(f'{args.out}.csv'))
            draw_curves(by_key(curves), 'iteration', Path(f'{args.out}.png'))
            print(f'\n{args.out}.csv, {args.out}.png')


if __name__ == '__main__':
    main()
