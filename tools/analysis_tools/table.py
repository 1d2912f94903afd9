"""Turn folders of searches into the papers' tables.

python tools/analysis_tools/table.py work_dirs/vtab1k --format md

Tables have the mean and standard deviation over seeds for each data set, the means of groups, and
both means of VTAB-1K by name. Parameters are the trainable ones without the head. Published figures
are in rows of their own. Data sets that were not run are a dash, and so is every mean that needs
them.
"""

from pathlib import Path

from lspt_mm.search.formats import FORMATS
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser


def main() -> None:
    """Print the tables of all benchmarks found."""
    parser = tool_parser(__doc__)
    parser.add_argument('folders', nargs='+', type=Path, help='work dirs of tools/search.py')
    parser.add_argument('--format', choices=FORMATS, default='md')
    parser.add_argument(
        '--compact', action='store_true', help='leave out the columns of what was not run'
    )
    parser.add_argument('--out', type=Path, help='file to write instead of printing')
    args = parser.parse_args()
    with input_errors_as_messages(args.debug):
        from lspt_mm.search.tables import collect, compact, table_of

        tables = [table_of(*found) for found in sorted(collect(args.folders).items())]
        if args.compact:
            tables = [compact(table) for table in tables]
        text = '\n'.join(map(FORMATS[args.format], tables))
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(text, encoding='utf-8')
        else:
            print(text, end='')


if __name__ == '__main__':
    main()
