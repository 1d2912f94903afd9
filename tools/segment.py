"""Tune a ViT on your own images and masks: one command, from a folder to a trained run.

    python -m lspt_mm segment --images photos --masks masks --out runs/road
    python -m lspt_mm segment --images photos --masks masks --out runs/road --method vpt-deep \\
        --backbone timm:vit_small_patch16_dinov3.lvd1689m --options iters=500 batch_size=4
    python -m lspt_mm predict runs/road photos/ --out found

It prepares the data (as `own_masks`), trains (as `train maskfolder/transfer.py`), and leaves the
config, prompt-only checkpoints and the data in --out. In Python: `lspt_mm.train_segmentation`.
"""

import argparse
from pathlib import Path
from typing import Any, Tuple

import lspt_mm
from lspt_mm.config.arguments import parse
from lspt_mm.converters.masks import add_mask_arguments
from lspt_mm.recipes.mask_folder import HEADS
from lspt_mm.recipes.segmentation import METHODS
from lspt_mm.utils.cli import input_errors_as_messages


def parse_args() -> argparse.Namespace:
    """Options of the training."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_mask_arguments(parser)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of the run')
    parser.add_argument(
        '--backbone', default='timm:vit_small_patch14_dinov2.lvd142m', help='timm:NAME or a file'
    )
    parser.add_argument('--method', choices=METHODS, default='lspt', metavar='NAME',
                        help=', '.join(METHODS))  # fmt: skip
    parser.add_argument('--head', choices=HEADS, default='upernet')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--resume', action='store_true', help='go on from the last checkpoint')
    parser.add_argument(
        '--options', nargs='+', type=_option, default=[], metavar='KEY=VALUE',
        help='further arguments (iters, batch_size, crop, lr ...), or keys of the config with dots',
    )  # fmt: skip
    parser.add_argument('--debug', action='store_true', help='show tracebacks of input errors')
    return parser.parse_args()


def _option(text: str) -> Tuple[str, Any]:
    name, equals, value = text.partition('=')
    if not equals:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form KEY=VALUE')
    return name, parse(value)


def main() -> None:
    """Prepare, train, and print the scores of the last validation."""
    args = vars(parse_args())
    with input_errors_as_messages(args.pop('debug')):
        args['options'] = dict(args['options'])
        run = lspt_mm.train_segmentation(**args)
        found = run.metrics
    width = max(map(len, found['classes']))
    for name, score in found['classes'].items():
        print(f'  {name:{width}}  ' + ('-' if score is None else f'{score:.2f}'))
    print(f'{found["metric"]} {found["value"]:.2f} on the validation images; next:')
    print(f'  python -m lspt_mm predict {run.folder} IMAGES --out found')
    print(f'  python -m lspt_mm report {run.folder} --out report')


if __name__ == '__main__':
    main()
