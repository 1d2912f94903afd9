"""Draw images as a run gets them: after the config's pipeline, with their masks or classes.

python tools/visualization/browse_dataset.py CONFIG --data-root DATA --out browsed --not-show
python tools/visualization/browse_dataset.py vtab1k/lspt_mae_eurosat --number 20 --not-show
python tools/visualization/browse_dataset.py CONFIG --split val

Without --not-show each is shown in a window as well. mmseg's and mmpretrain's own visualizers draw
them. Images of pre-training have no label to draw.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lspt_mm.config.options import KeyValueAction
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser

if TYPE_CHECKING:
    from mmengine.config import Config


def parse_args() -> argparse.Namespace:
    """Options."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config, FILE:name=value,... or the name of an experiment')
    parser.add_argument('--split', choices=('train', 'val', 'test'), default='train')
    parser.add_argument('--number', type=int, default=16, help='how many images')
    parser.add_argument('--out', type=Path, default=Path('browsed'), help='folder for pictures')
    parser.add_argument('--not-show', action='store_true', help='write files only')
    parser.add_argument('--interval', type=float, default=2, help='seconds that each is shown')
    parser.add_argument('--data-root', help="folder of the data, instead of the config's")
    parser.add_argument('--cfg-options', nargs='+', action=KeyValueAction, metavar='KEY=VALUE')
    return parser.parse_args()


def dataset_of(cfg: Config, split: str):
    """The data set of a split, with its pipeline."""
    from mmengine.config import Config
    from mmengine.registry import DATASETS

    from lspt_mm.config.preflight import check_inputs

    loader = f'{split}_dataloader'
    if not cfg.get(loader):
        raise InputError(f'--split {split}: the config has no {loader}')
    # Only the data: no weights are needed to look at images.
    needed = {key: cfg[key] for key in ('data_help', loader) if cfg.get(key)}
    check_inputs(Config(needed), (loader,))
    return DATASETS.build(cfg[loader].dataset)


def rgb(inputs) -> np.ndarray:
    """An image (3, H, W) of the pipeline, which loads BGR, as (H, W, 3) uint8 RGB."""
    image = inputs.permute(1, 2, 0).clamp(0, 255).byte().numpy()
    return np.ascontiguousarray(image[..., ::-1])


def main() -> None:
    """Draw the images."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        from lspt_mm.config.load import apply_common_options, read_config
        from lspt_mm.tasks import task_of

        if args.number < 1:
            raise InputError(f'--number {args.number}: expected at least 1')
        cfg = read_config(args.config)
        apply_common_options(cfg, args.cfg_options, args.data_root)
        dataset = dataset_of(cfg, args.split)
        draw = task_of(cfg).drawer(dataset.metainfo)
        args.out.mkdir(parents=True, exist_ok=True)
        count = min(args.number, len(dataset))
        for index in range(count):
            item = dataset[index]
            inputs, sample = item['inputs'], item.get('data_samples')
            if isinstance(inputs, (list, tuple)):  # views of self-supervised pre-training
                inputs = inputs[0]
            stem = Path(getattr(sample, 'img_path', None) or f'{index}').stem
            name = f'{index:05d}_{stem}'
            draw(
                name, rgb(inputs), sample, show=not args.not_show, wait_time=args.interval,
                out_file=str(args.out / f'{name}.png'),
            )
        print(f'{count} of {len(dataset)} images of {args.split} in {args.out}')


if __name__ == '__main__':
    main()
