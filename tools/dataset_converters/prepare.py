"""Prepare a data set: from its published files to the lists that training reads.

    python tools/dataset_converters/prepare.py cub --from downloads
    python tools/dataset_converters/prepare.py vtab-1k --from vtab-1k --task dtd --task eurosat
    python tools/dataset_converters/prepare.py imagefolder --from photos --val-share 0.2
    python tools/dataset_converters/prepare.py imagefolder --from photos --labels labels.csv
    python tools/dataset_converters/prepare.py --list

Nothing is downloaded. Archives are extracted, extracted folders linked to (or copied), every list
and image is checked, and the lists are written last. `prepare.py NAME --help` has the options.
"""

import argparse
from pathlib import Path

from lspt_mm.config.benchmarks import FGVC_TASKS, VTAB_TASKS
from lspt_mm.converters import prepare_fgvc, prepare_image_folder, prepare_vtab
from lspt_mm.converters.archives import SOURCES, SPLITS_SOURCE
from lspt_mm.converters.fgvc import expected_files
from lspt_mm.converters.image_folder import add_label_arguments
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages


def parse_args() -> argparse.Namespace:
    """Options of preparing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--list', action='store_true', help='show the data sets and where to get them'
    )
    names = parser.add_subparsers(dest='name', metavar='NAME', help=', '.join(SOURCES))
    for name, task in FGVC_TASKS.items():
        one = _add(names, name, f'data/fgvc/{name}', f'{task.title}: {expected_files(name)}')
        one.add_argument(
            '--splits', type=Path, metavar='DIR',
            help='published train.json, val.json and test.json, rather than a val drawn here; '
            f'{SPLITS_SOURCE}',
        )
        one.add_argument('--seed', type=int, default=0, help='seed of the val drawn here')
        _add_not_official(one)
    one = _add(names, 'vtab-1k', 'data/vtab-1k', "VTAB-1K in the community's layout")
    one.add_argument(
        '--task', action='append', default=[], choices=VTAB_TASKS, metavar='NAME',
        help=f'only this task; may be repeated: {", ".join(VTAB_TASKS)}',
    )
    _add_not_official(one)
    one = _add(names, 'imagefolder', 'data/NAME of the folder', 'your own images')
    add_label_arguments(one)
    one.add_argument(
        '--val-share', type=float, help='draw val: this share of each class of train; 0: val is '
        'train, for classes of one image',
    )
    one.add_argument(
        '--fail-on-duplicates', action='store_true',
        help='fail on equal images in two splits or classes',
    )
    one.add_argument(
        '--overwrite', action='store_true',
        help='replace a prepared folder even if its classes change',
    )
    one.add_argument('--seed', type=int, default=0, help='seed of the val drawn here')
    args = parser.parse_args()
    if not args.list and not args.name:
        parser.error(f'expected one of {", ".join(SOURCES)}, or --list')
    return args


def _add(names, name: str, dest: str, description: str) -> argparse.ArgumentParser:
    parser = names.add_parser(
        name, description=f'{description}. Where to get it: {SOURCES[name]}'
    )
    parser.add_argument(
        '--from', dest='source', type=Path, required=True, metavar='DIR',
        help='folder of the archives or of what was extracted from them',
    )
    parser.add_argument('--to', type=Path, metavar='DEST', help=f'by default {dest}')
    parser.add_argument('--copy', action='store_true', help='copy folders rather than link to them')
    parser.add_argument('--debug', action='store_true', help='show tracebacks of input errors')
    return parser


def _add_not_official(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--not-official', action='store_true', help='accept other numbers of images'
    )


def table() -> str:
    """The data sets: classes, images, where to get them."""
    lines = [f'{"name":20} {"classes":>7} {"train":>6} {"val":>5} {"test":>6}  files; where']
    for name, (classes, train, val, test, _) in FGVC_TASKS.items():
        files = f'{expected_files(name)}; {SOURCES[name]}'
        lines.append(f'{name:20} {classes:7} {train:6} {val:5} {test:6}  {files}')
    lines.append(f'{"vtab-1k":48}  a folder for each task; {SOURCES["vtab-1k"]}')
    for name, task in VTAB_TASKS.items():
        lines.append(f'{name:>20} {task.num_classes:7} {800:6} {200:5} {task.num_test:6}')
    lines.append(f'{"imagefolder":48}  {SOURCES["imagefolder"]}')
    return '\n'.join(lines)


def prepare(args: argparse.Namespace) -> str:
    """Prepare the data set; returns a line about what was written."""
    if args.to is not None and args.to.exists() and not args.to.is_dir():
        raise InputError(f'--to {args.to}: is a file, expected a folder')
    how = {'copy': args.copy}
    if args.name == 'imagefolder':
        return prepare_image_folder(
            args.source, args.to or Path('data') / args.source.absolute().name,
            val_share=args.val_share, labels=args.labels, test_share=args.test_share,
            seed=args.seed, overwrite=args.overwrite, fail_on_duplicates=args.fail_on_duplicates,
            **how,
        )
    how['official_counts'] = not args.not_official
    if args.name == 'vtab-1k':
        dest = args.to or Path('data/vtab-1k')
        return prepare_vtab(args.source, dest, tasks=args.task, **how)
    dest = args.to or Path('data/fgvc') / args.name
    return prepare_fgvc(
        args.name, args.source, dest, splits=args.splits, seed=args.seed, **how
    )


def main() -> None:
    """Prepare, or show the table."""
    args = parse_args()
    if args.list:
        print(table())
        return
    with input_errors_as_messages(args.debug):
        print(prepare(args))


if __name__ == '__main__':
    main()
