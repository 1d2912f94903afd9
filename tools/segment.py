"""Tune a ViT on your own images and masks, in one command.

    python -m lspt_mm segment --images photos --masks masks --out runs/road
    python -m lspt_mm segment --images photos --masks masks --out runs/road --method vpt-deep \\
        --backbone timm:vit_small_patch16_dinov3.lvd1689m --options iters=500 batch_size=4
    python -m lspt_mm predict runs/road photos/ --out found

It prepares the data (as `own_masks`), trains (as `train maskfolder/transfer.py`), and writes the
config, prompt-only checkpoints and the data to --out. In Python: `lspt_mm.train_segmentation`.
"""

import argparse

from lspt_mm.config.options import add_run_arguments
from lspt_mm.converters.masks import add_mask_arguments
from lspt_mm.recipes.mask_folder import HEADS
from lspt_mm.recipes.methods import AUTO
from lspt_mm.recipes.segmentation import METHODS
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser
from lspt_mm.utils.installed import SEGMENTATION, require


def parse_args() -> argparse.Namespace:
    """Options of the training."""
    parser = tool_parser(__doc__)
    add_mask_arguments(parser)
    parser.add_argument('--head', choices=HEADS, default='upernet')
    add_run_arguments(parser, [*METHODS, AUTO], 'iters, batch_size, crop, lr')
    return parser.parse_args()


def main() -> None:
    """Prepare, train, and print the scores of the last validation."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        require(*SEGMENTATION)
        from lspt_mm import train_segmentation
        from lspt_mm.report.summary import train_and_summarize

        train_and_summarize(train_segmentation, vars(args))


if __name__ == '__main__':
    main()
