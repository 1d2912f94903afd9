"""Prepare your own images and masks for segmentation, with a preview before anything is written.

    python -m lspt_mm own_masks --images photos --masks drawings --to data/mine
    python -m lspt_mm own_masks --images a --masks b --to data/mine --classes classes.txt

A table and DEST/preview.png show how the masks were read, before anything else is written.
--labels gives the meaning of their values where several are possible. --classes names them, a line
each: `name`, `index name`, or `name r g b` for masks of colours. Images are linked to, masks are
rewritten, and a config reads the folder:

    python -m lspt_mm train maskfolder/transfer.py:data=data/mine
"""

import argparse
import sys
from pathlib import Path

from lspt_mm.converters.masks import PREVIEW, Outcome, add_mask_arguments, prepare_masks
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser


def parse_args() -> argparse.Namespace:
    """Options of preparing."""
    parser = tool_parser(__doc__)
    add_mask_arguments(parser)
    parser.add_argument('--to', type=Path, required=True, metavar='DEST', help='folder to write')
    parser.add_argument(
        '--fail-on-duplicates', action='store_true',
        help='fail on equal images in two splits or with two masks',
    )
    parser.add_argument('--copy', action='store_true', help='copy the images, not link to them')
    parser.add_argument(
        '--overwrite', action='store_true',
        help='replace a prepared folder even if its classes change',
    )
    parser.add_argument(
        '--yes', action='store_true', help='write without asking, for use in scripts'
    )
    return parser.parse_args()


def main() -> None:
    """Prepare the data, and print the result."""
    args = parse_args()

    def confirm(found: Outcome) -> bool:
        print(found.table)
        for remark in found.remarks:
            print(f'note: {remark}')
        print(f'{args.to / PREVIEW}: images with their classes')
        if args.yes or not sys.stdin.isatty():
            return True
        return input(f'write {args.to}? [y/N] ').strip().lower() in ('y', 'yes')

    with input_errors_as_messages(args.debug):
        found = prepare_masks(
            args.images, args.masks, args.to, classes=args.classes, labels=args.labels,
            ignore=args.ignore, image_suffix=args.image_suffix, mask_suffix=args.mask_suffix,
            val_share=args.val_share, test_share=args.test_share, seed=args.seed,
            exif=args.exif, skip_unpaired=args.skip_unpaired, copy=args.copy,
            overwrite=args.overwrite, fail_on_duplicates=args.fail_on_duplicates, confirm=confirm,
        )
    if found is None:
        sys.exit('nothing was written')
    counts = ', '.join(f'{part} {count}' for part, count in found.about['images'].items())
    print(f'{args.to}: {counts} images; masks read as {found.about["masks"]}; split: '
          f'{found.about["split"]}')


if __name__ == '__main__':
    main()
