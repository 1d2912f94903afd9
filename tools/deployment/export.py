"""Write a tuned model as a file that runs without this library: ONNX or torch.export.

python tools/deployment/export.py RUN_FOLDER model.onnx
python tools/deployment/export.py CONFIG CHECKPOINT model.onnx
python tools/deployment/export.py CONFIG CHECKPOINT model.pt2 --size 512 512

Input `images` (B, 3, H, W), RGB values of 0 to 255; output `logits`, (B, K, H, W) of a segmentor at
the images' size, (B, K) of a classifier. Batch, height and width may vary; height and width must be
multiples of the patch size (at least two patches for a classifier, four for a segmentor). With
--fixed-size, the file takes one image of the given size only. A segmentor takes the image as a
whole: if the config tests in sliding windows, cut images into windows of --size.

ONNX of more than 1.5 GB has its weights in a second file, OUT.data, which stays beside the first.
At the end, the file is run for several sizes and compared with PyTorch.
"""

import argparse
from pathlib import Path

from lspt_mm.config.options import take_checkpoint
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser
from lspt_mm.utils.installed import require


def parse_args() -> argparse.Namespace:
    """Options of the export."""
    parser = tool_parser(__doc__)
    parser.add_argument('run', help="the run's folder, or its config followed by a checkpoint")
    parser.add_argument('paths', nargs='+', metavar='out', help='file to write, .onnx or .pt2')
    parser.add_argument(
        '--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'),
        help="size of the images it is traced with; default: the backbone's img_size",
    )
    parser.add_argument('--fixed-size', action='store_true', help='one image of this size only')
    parser.add_argument(
        '--no-preprocess', action='store_true', help='images are normalised by the caller'
    )
    parser.add_argument('--pretrained', help="file of the ViT's weights, instead of the config's")
    args = parser.parse_args()
    args.checkpoint = take_checkpoint(parser, args.run, args.paths, 'OUT', most=1)
    args.out = Path(args.paths[0])
    return args


def main() -> None:
    """Export the model, write the file, and compare."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        if args.out.suffix == '.onnx':
            require('onnx', 'onnxruntime', 'onnxscript')
        from lspt_mm.apis import init_model
        from lspt_mm.deployment import export_model

        model = init_model(args.run, args.checkpoint, args.pretrained, device='cpu')
        found = export_model(
            model, args.out, args.size, not args.fixed_size, preprocess=not args.no_preprocess
        )
    size = sum(path.stat().st_size for path in found.files) / 1e6
    print(
        f'{" and ".join(map(str, found.files))}: {size:.1f} MB, differs from PyTorch by at most '
        f'{found.difference:.1e} of the largest logit, over {found.sizes} sizes'
    )


if __name__ == '__main__':
    main()
