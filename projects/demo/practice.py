"""Render practice data, laid out as one's own would be: photos with masks, or folders of classes.

    python -m lspt_mm practice masks --to my            my/images/*.jpg, my/masks/*.png, classes.txt
    python -m lspt_mm practice classes --to things      things/{train,test}/CLASS/*.jpg

For trying the pages on own data without any; nothing is downloaded.
"""

import argparse
from pathlib import Path

from lspt_mm.utils.cli import input_errors_as_messages, tool_parser
from projects.demo.practice_data import write_class_folders, write_photos_and_masks

KINDS = {'masks': (write_photos_and_masks, 20), 'classes': (write_class_folders, 12)}


def parse_args() -> argparse.Namespace:
    """Options of rendering."""
    parser = tool_parser(__doc__)
    parser.add_argument('kind', choices=KINDS, help='photos with masks, or folders of classes')
    parser.add_argument('--to', type=Path, required=True, metavar='DIR', help='folder to write')
    parser.add_argument('--count', type=int, help='photos (20), or pictures of each class (12)')
    parser.add_argument('--size', type=int, default=256, help='side of a scene in pixels (256)')
    parser.add_argument('--seed', type=int, default=0, help='of the scenes')
    return parser.parse_args()


def main() -> None:
    """Render."""
    args = parse_args()
    write, usual = KINDS[args.kind]
    with input_errors_as_messages(args.debug):
        count = usual if args.count is None else args.count
        write(args.to, count=count, size=args.size, seed=args.seed)
    files = sum(path.is_file() for path in args.to.rglob('*'))
    print(f'{args.to}: {files} files')


if __name__ == '__main__':
    main()
