"""Predict images with a trained model: masks and overlays, or classes and probabilities.

    python -m lspt_mm predict work_dirs/mine DIR --out found
    python -m lspt_mm predict work_dirs/mine/transfer.py work_dirs/mine/iter_9.pth DIR --out found

RUN is the work dir, whose last checkpoint is used, or the config in it followed by a checkpoint.
Segmentation writes masks/NAME.png (class numbers, shown in the classes' colours),
overlays/NAME.jpg, and predictions.csv with the files of each image. Classification writes
predictions.csv alone. Checkpoints may be full or prompt-only. Batches, half precision and their
costs: docs/deployment.md.
"""

import argparse
import sys
from pathlib import Path

from lspt_mm.config.options import take_checkpoint
from lspt_mm.utils.cli import check_writable, input_errors_as_messages, tool_parser


def parse_args() -> argparse.Namespace:
    """Options of predicting."""
    parser = tool_parser(__doc__)
    parser.add_argument('run', help="the run's folder, or its config followed by a checkpoint")
    parser.add_argument('images', nargs='+', type=Path, help='images, or folders of them')
    parser.add_argument('--out', type=Path, default=Path('predictions'), metavar='DIR',
                        help='folder to write (predictions)')
    parser.add_argument(
        '--top', type=int, help='classification: classes per image, the likeliest first (1; of '
        'multi-label runs those of at least a half)',
    )
    parser.add_argument(
        '--batch-size', type=int, help='images loaded at once; those of one size go through the '
        "model together (the config's test_dataloader)",
    )
    parser.add_argument('--workers', type=int, help="processes that load images (the config's)")
    parser.add_argument(
        '--dtype', choices=('float32', 'float16', 'bfloat16'), default='float32',
        help='precision of the forward pass (float32); float16 on GPUs only',
    )
    parser.add_argument('--device', help='such as cpu or cuda:0; by default a GPU if there is one')
    parser.add_argument(
        '--pretrained', help="prompt-only checkpoints: file of the ViT, instead of the config's"
    )
    args = parser.parse_args()
    args.checkpoint = take_checkpoint(parser, args.run, args.images, 'IMAGES')
    for name, least in (('top', 1), ('batch_size', 1), ('workers', 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f'--{name.replace("_", "-")} {value}: expected at least {least}')
    return args


def main() -> None:
    """Predict."""
    args = parse_args()
    sys.stdout.reconfigure(errors='surrogateescape')  # names that are no UTF-8
    with input_errors_as_messages(args.debug):
        from lspt_mm.apis import init_model, predict_images
        from lspt_mm.apis.predict import images_of

        images = images_of(args.images, args.out)
        check_writable(args.out, f'--out {args.out}')
        model = init_model(args.run, args.checkpoint, args.pretrained, args.device)
        lines = predict_images(
            model, images, args.out, args.top, True, args.batch_size, args.workers, args.dtype
        )
        print(*lines, sep='\n')
        print(f'{args.out}: {len(images)} images in predictions.csv')


if __name__ == '__main__':
    main()
