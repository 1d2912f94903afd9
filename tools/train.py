"""Train a model from a config, as in other OpenMMLab projects.

python tools/train.py configs/lspt_upernet_ade20k.py --work-dir work_dirs/ade --amp
"""

import argparse

from lspt_mm.config.options import add_common_arguments
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser


def parse_args() -> argparse.Namespace:
    """Options of training."""
    parser = tool_parser(__doc__.split('\n')[0])
    add_common_arguments(parser)
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='resume from a checkpoint, or without a path from the latest in the work dir',
    )
    parser.add_argument(
        '--amp', action='store_true',
        help='mixed precision: bfloat16 on CPUs and GPUs that have it, else float16',
    )
    parser.add_argument(
        '--compile', action='store_true',
        help="compile the ViT's blocks; the first steps take minutes",
    )
    parser.add_argument(
        '--checkpoint', choices=('full', 'prompts'),
        help="what checkpoints hold: everything, or all but the frozen ViT (the config's content)",
    )
    parser.add_argument(
        '--no-check', action='store_true',
        help='start without reading every file of the data first (done once for unchanged files)',
    )
    parser.add_argument('--seed', type=int, help="random seed, instead of the config's")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument('--pretrained', help="file of the ViT's weights, instead of the config's")
    weights.add_argument(
        '--random-backbone', action='store_true',
        help='run on a random ViT on purpose, such as to time a run; results mean nothing',
    )
    return parser.parse_args()


def apply_options(cfg, args: argparse.Namespace) -> None:
    """Write the options of training into the config."""
    from lspt_mm.config.load import choose_weights, turn_on_amp, turn_on_compile
    from lspt_mm.engine.work_dir import latest_checkpoint, read_training_checkpoint

    if args.amp:
        turn_on_amp(cfg)
    if args.compile:
        turn_on_compile(cfg)
    if args.checkpoint:
        hook = cfg.setdefault('default_hooks', {}).setdefault('checkpoint', {})
        hook.update(type='lspt_mm.PromptCheckpointHook', content=args.checkpoint)
    if args.seed is not None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=args.seed)
    choose_weights(cfg, args.pretrained, args.random_backbone)
    content = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('content')
    if args.random_backbone and content == 'prompts':
        raise InputError(
            "checkpoint content='prompts' with --random-backbone: such a checkpoint could not be "
            'used, as the random weights are not stored; use --checkpoint full, or --pretrained '
            'FILE'
        )
    if args.resume:
        if args.resume == 'auto':
            found = latest_checkpoint(cfg.work_dir)
        else:
            found = args.resume
            read_training_checkpoint(found)
        cfg.resume = found is not None
        if found is None:
            print(f'--resume: no checkpoint in {cfg.work_dir} yet, starting a new run', flush=True)
        else:
            cfg.load_from = found


def main() -> None:
    """Train."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        from lspt_mm.apis.training import train
        from lspt_mm.config.load import load_config

        cfg = load_config(args)
        apply_options(cfg, args)
        train(cfg, check=not args.no_check)


if __name__ == '__main__':
    main()
