"""Prepare your own images and masks for segmentation: checked, divided, classes found or named.

    python -m lspt_mm own_masks --images photos --masks drawings --to data/mine
    python -m lspt_mm own_masks --images a --masks b --to data/mine --classes classes.txt

Masks are numbers of classes, palette PNGs, colours, or 0 and 255; names are the images', or have
--mask-suffix after them. --classes names them, a line each: `name`, or `name r g b` for masks of
colours. Images are linked to, masks are rewritten, and a configuration reads the folder:

    python -m lspt_mm train maskfolder/upernet.py:data=data/mine
"""

import argparse
from pathlib import Path

import lspt_mm  # noqa: F401  (repairs the stack before anything imports torchvision)
from lspt_mm.converters.masks import KINDS, prepare_masks
from lspt_mm.utils.cli import input_errors_as_messages


def parse_args() -> argparse.Namespace:
    """Options of preparing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--images', type=Path, required=True, help='folder of the images')
    parser.add_argument('--masks', type=Path, required=True, help='folder of the masks')
    parser.add_argument('--to', type=Path, required=True, metavar='DEST', help='folder to write')
    parser.add_argument(
        '--classes', type=Path, metavar='FILE', help='names of the classes, a line each: name, '
        'name r g b, or number name; by default what the masks hold',
    )  # fmt: skip
    parser.add_argument('--kind', default='auto', choices=KINDS, help='what the masks hold')
    parser.add_argument(
        '--ignore', action='append', default=[], metavar='WHAT',
        help='number, colour (r,g,b or #rrggbb) or class that counts for nothing; may be repeated',
    )  # fmt: skip
    parser.add_argument(
        '--mask-suffix', default='', metavar='TEXT',
        help="after the image's name in a mask's, such as _mask (for a leading hyphen: "
        '--mask-suffix=-mask)',
    )  # fmt: skip
    parser.add_argument(
        '--image-suffix', default='', metavar='TEXT',
        help="after the common name in an image's, such as _leftImg8bit",
    )  # fmt: skip
    parser.add_argument(
        '--val-share', type=float, default=0.2, help='share of the images for validation (0.2)'
    )
    parser.add_argument('--test-share', type=float, default=0.0, help='share for a test (0)')
    parser.add_argument('--seed', type=int, default=0, help='of the split')
    parser.add_argument(
        '--nearest', action='store_true',
        help='give values that are no class the nearest one (masks saved as JPEG)',
    )  # fmt: skip
    parser.add_argument(
        '--exif', default='auto', choices=('auto', 'shown', 'stored'),
        help='whether masks were drawn on photos as shown or as stored, where EXIF data turn them',
    )  # fmt: skip
    parser.add_argument(
        '--skip-unpaired', action='store_true', help='leave out what has no counterpart'
    )
    parser.add_argument('--copy', action='store_true', help='copy the images, not link to them')
    parser.add_argument(
        '--overwrite', action='store_true',
        help='replace a prepared folder although its classes change',
    )  # fmt: skip
    parser.add_argument('--debug', action='store_true', help='show tracebacks of input errors')
    return parser.parse_args()


def main() -> None:
    """Prepare, and say what was found."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        found = prepare_masks(
            args.images, args.masks, args.to, classes=args.classes, kind=args.kind,
            ignore=args.ignore, image_suffix=args.image_suffix, mask_suffix=args.mask_suffix,
            val_share=args.val_share, test_share=args.test_share, seed=args.seed,
            nearest=args.nearest, exif=args.exif, skip_unpaired=args.skip_unpaired,
            copy=args.copy, overwrite=args.overwrite,
        )  # fmt: skip
    print(found.table)
    for remark in found.remarks:
        print(f'note: {remark}')
    counts = ', '.join(f'{part} {count}' for part, count in found.about['images'].items())
    print(f'{args.to}: {counts} images; masks of {found.about["masks"]}; the split is '
          f'{found.about["split"]}')  # fmt: skip


if __name__ == '__main__':
    main()
