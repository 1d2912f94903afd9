"""Test a checkpoint with a config, as in other OpenMMLab projects.

python tools/test.py RUN_FOLDER
python tools/test.py configs/lspt_upernet_ade20k.py work_dirs/ade/iter_160000.pth --tta
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lspt_mm.config.options import add_common_arguments
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser

if TYPE_CHECKING:
    from mmengine.runner import Runner


def parse_args() -> argparse.Namespace:
    """Options of testing."""
    parser = tool_parser(__doc__.split('\n')[0])
    add_common_arguments(parser)
    parser.add_argument('checkpoint', nargs='?', help="checkpoint file; not after a run's folder")
    parser.add_argument(
        '--out', help='segmentation: folder for the predictions as label images; '
        'classification: file (.pkl) for all predictions',
    )
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    parser.add_argument(
        '--pretrained', help="prompt-only checkpoints: file of the ViT, instead of the config's"
    )
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation (several scales and flips)'
    )
    return parser.parse_args()


def build(args: argparse.Namespace) -> Runner:
    """The Runner, with the checkpoint to load."""
    from lspt_mm.apis.model import build_test_runner
    from lspt_mm.config.load import load_config
    from lspt_mm.engine.work_dir import find_config_and_checkpoint
    from lspt_mm.tasks import task_of

    if args.checkpoint is None:
        if not Path(args.config).is_dir():
            raise InputError(
                f'{args.config}: expected a checkpoint after a config, or the folder of a run alone'
            )
        args.work_dir = args.work_dir or str(Path(args.config) / 'test')
        args.config, args.checkpoint = find_config_and_checkpoint(args.config)
    cfg = load_config(args)
    task = task_of(cfg)

    def apply_options(cfg) -> None:
        if args.show_dir:
            task.show(cfg, args.show_dir)
        if args.tta:
            task.use_tta(cfg)
        if args.out:
            task.dump(cfg, args.out)

    return build_test_runner(cfg, args.checkpoint, args.pretrained, apply_options)


def main() -> None:
    """Test."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        from lspt_mm.engine.runner import run

        runner = build(args)
        run(runner, runner.test)


if __name__ == '__main__':
    main()
