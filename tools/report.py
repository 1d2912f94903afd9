"""Write a page that compares runs: settings, curves, tables, pictures, and what the prompts do.

python tools/report.py work_dirs/lspt work_dirs/gated work_dirs/none --out report.html
python tools/report.py LSPT=work_dirs/a GaPT=work_dirs/b --split test --images 100

Takes work dirs of tools/train.py. The page is one HTML file that needs no other and no network:
attention of class token and prompts per block and head, side by side; forgetting over depth; gates;
burstiness; t-SNE of features; classes and confusion. docs/looking.md explains how each is computed.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

from lspt_mm.config.options import add_comparison_arguments
from lspt_mm.errors import InputError
from lspt_mm.utils.atomic_io import write_text
from lspt_mm.utils.cli import check_writable, input_errors_as_messages, tool_parser


def parse_args() -> argparse.Namespace:
    """Options of the report."""
    parser = tool_parser(__doc__)
    add_comparison_arguments(parser)
    parser.add_argument('--out', type=Path, default=Path('report.html'), help='file to write')
    parser.add_argument('--images', type=int, default=64, help='images to compute numbers from')
    parser.add_argument('--pictures', type=int, default=8, help='how many of them are shown')
    parser.add_argument('--numbers', type=Path, help='file (.json) for all numbers of the page')
    return parser.parse_args()


def main() -> None:
    """Run every model and write the page."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        from lspt_mm.analysis.runs import find_runs
        from lspt_mm.report import collect_results, numbers_of, write_page

        if args.images < 1 or args.pictures < 0:
            raise InputError('--images and --pictures: expected numbers of at least 1 and 0')
        for option, path in (('--out', args.out), ('--numbers', args.numbers)):
            if path is not None and path.is_dir():
                raise InputError(f'{option} {path}: is a folder, expected a file')
            if path is not None:
                check_writable(path.parent, f'{option} {path}')
        results = [
            collect_results(run, args.split, args.images, args.pictures, args.pretrained,
                            args.device, progress=True)
            for run in find_runs(args.runs, args.data_root)
        ]
        command = shlex.join(['python', 'tools/report.py', *sys.argv[1:]])
        write_page(results, args.out, args.split, command)
        if args.numbers:
            found = {one.run.name: numbers_of(one) for one in results}
            write_text(args.numbers, json.dumps(found, indent=1) + '\n')
    print(f'{args.out}: {args.out.stat().st_size / 1e6:.1f} MB')


if __name__ == '__main__':
    main()
