"""Test a checkpoint with a config, as in other OpenMMLab projects.

python tools/test.py configs/lspt_upernet_ade20k.py work_dirs/ade/iter_160000.pth --tta
"""

import argparse
from pathlib import Path

import lspt_mm  # noqa: F401  (repairs the stack before anything imports torchvision)
from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.config.load import add_common_arguments, load_config
from lspt_mm.config.preflight import check_vit_file
from lspt_mm.engine.hooks.prompt_checkpoint_hook import check_fit
from lspt_mm.engine.runner import build_runner, run
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages


def parse_args() -> argparse.Namespace:
    """Options of testing."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    add_common_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--out', help='segmentation: folder for the predictions as label images; '
        'classification: file (.pkl) for all predictions',
    )  # fmt: skip
    parser.add_argument('--show-dir', help='folder for pictures of the predictions')
    parser.add_argument(
        '--pretrained', help="prompt-only checkpoints: file of the ViT, instead of the config's"
    )
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation (several scales and flips)'
    )
    return parser.parse_args()


def apply_options(cfg, args: argparse.Namespace) -> None:
    """Write the options of testing into the config."""
    if not Path(args.checkpoint).is_file():
        raise InputError(f'checkpoint {args.checkpoint}: no such file')
    if args.pretrained:
        check_vit_file(args.pretrained)
        cfg.model.backbone.pretrained = args.pretrained
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show_dir:
        show(cfg, args.show_dir)
    if args.tta:
        use_tta(cfg)
    if args.out:
        keep_predictions(cfg, args.out)


def show(cfg, folder: str) -> None:
    """Have the task's visualization hook draw into ``folder``."""
    if cfg.default_scope == 'mmseg':
        cfg.default_hooks.visualization.update(draw=True, interval=1)
        cfg.visualizer.save_dir = folder
    else:
        cfg.default_hooks.visualization.update(enable=True, out_dir=folder, interval=1)


def use_tta(cfg) -> None:
    """Wrap the model and replace the pipeline by the config's ``tta_*`` entries."""
    if cfg.get('tta_model') is None or (
        cfg.default_scope == 'mmseg' and cfg.get('tta_pipeline') is None
    ):
        raise InputError('--tta: the config has no tta_model and tta_pipeline')
    if cfg.get('tta_pipeline') is not None:
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(cfg.tta_model, module=cfg.model)


def keep_predictions(cfg, out: str) -> None:
    """Store what the model predicts."""
    if cfg.default_scope == 'mmseg':
        cfg.test_evaluator.update(output_dir=out, keep_results=True)
    else:
        evaluators = cfg.test_evaluator
        evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
        cfg.test_evaluator = [*evaluators, {'type': 'DumpResults', 'out_file_path': out}]


def main() -> None:
    """Test."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        cfg = load_config(args)
        apply_options(cfg, args)
        runner = build_runner(cfg, ('test_dataloader',))
        try:
            check_fit(runner.model, read_checkpoint(args.checkpoint))
        except InputError as error:
            raise InputError(f'{args.checkpoint}: {error}') from error
        run(runner, runner.test)


if __name__ == '__main__':
    main()
