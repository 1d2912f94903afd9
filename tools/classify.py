"""Tune a ViT on your own images with labels, in one command.

    python -m lspt_mm classify --images things --out runs/things
    python -m lspt_mm classify --images photos --labels labels.csv --out runs/photos \\
        --method vpt-deep --options epochs=30 batch_size=16
    python -m lspt_mm predict runs/things photos/ --out found

--images is a folder with a folder for each class, perhaps below train, val and test; or any folder,
with a table of labels. Several labels for an image, or none, make the run multi-label. It prepares
the data (as `prepare imagefolder`), trains (as `train imagefolder/transfer.py`), and writes the
config, prompt-only checkpoints and the data to --out. In Python: `lspt_mm.train_classification`.
"""

import argparse
from pathlib import Path

from lspt_mm.config.options import add_run_arguments
from lspt_mm.converters.image_folder import add_label_arguments
from lspt_mm.recipes.methods import AUTO, METHODS
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser
from lspt_mm.utils.installed import CLASSIFICATION, require


def parse_args() -> argparse.Namespace:
    """Options of the training."""
    parser = tool_parser(__doc__)
    parser.add_argument('--images', type=Path, required=True, help='folder of the images')
    add_label_arguments(parser)
    parser.add_argument(
        '--val-share', type=float, default=0.2, help='share of each class for validation, if there '
        'is none (0.2); 0: validate on the training images',
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the split and of the run')
    add_run_arguments(parser, [*METHODS, AUTO], 'epochs, batch_size, img_size, lr')
    return parser.parse_args()


def main() -> None:
    """Prepare, train, and print the scores of the last validation."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        require(*CLASSIFICATION)
        from lspt_mm import train_classification
        from lspt_mm.report.summary import train_and_summarize

        train_and_summarize(train_classification, vars(args))


if __name__ == '__main__':
    main()
