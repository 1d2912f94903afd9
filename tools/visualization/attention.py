"""Draw attention of class token and prompts over images, block by block, for several runs.

python tools/visualization/attention.py work_dirs/lspt work_dirs/gated --out attention
python tools/visualization/attention.py LSPT=work_dirs/a VPT=work_dirs/b --images 3 --head all

Takes work dirs of tools/train.py and images of their data; writes a PNG for each image, with a row
for each run's class token and prompts and a column for each block (and a PNG for each head, with
--head all). tools/report.py shows the same maps in a page, with numbers.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from lspt_mm.config.options import add_comparison_arguments
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser

if TYPE_CHECKING:
    from lspt_mm.report import Picture


def parse_args() -> argparse.Namespace:
    """Options."""
    parser = tool_parser(__doc__)
    add_comparison_arguments(parser)
    parser.add_argument('--out', type=Path, default=Path('attention'), help='folder for the PNGs')
    parser.add_argument('--images', type=int, default=4, help='how many, evenly spaced')
    parser.add_argument('--head', default='mean', help="'mean', the number of a head, or 'all'")
    args = parser.parse_args()
    if args.head not in ('mean', 'all') and not (args.head.isdecimal() and int(args.head)):
        parser.error(f"--head {args.head}: expected 'mean', 'all' or a number from 1")
    return args


def heads_of(text: str, available: int) -> list:
    """Numbers of heads from 1; None is the mean over them."""
    if text == 'mean':
        return [None]
    if text == 'all':
        return list(range(1, available + 1))
    if text.isdecimal() and 1 <= int(text) <= available:
        return [int(text)]
    raise InputError(f"--head {text}: expected 'mean', 'all' or a number from 1 to {available}")


def rows_of(name: str, picture: Picture, head) -> dict:
    """Title to the maps of all blocks, for class token and prompts where there are any."""
    rows = {}
    for who, blocks in (('class token', picture.cls), ('prompts', picture.prompts)):
        if any(heads is not None for heads in blocks):
            rows[f'{name}\n{who}'] = [
                None if heads is None else heads.mean(0) if head is None else heads[head - 1]
                for heads in blocks
            ]
    return rows


def main() -> None:
    """Draw all images."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        from lspt_mm.analysis.runs import find_runs
        from lspt_mm.analysis.visualization import draw_attention
        from lspt_mm.report import by_image, collect_pictures

        if args.images < 1:
            raise InputError(f'--images {args.images}: expected a number of at least 1')
        found = {
            run.name: collect_pictures(run, args.split, args.images, args.pretrained, args.device)
            for run in find_runs(args.runs, args.data_root)
        }
        heads = [
            heads.shape[0]
            for pictures in found.values()
            for heads in pictures[0].cls + pictures[0].prompts
            if heads is not None
        ]
        if not heads:
            raise InputError(f'{", ".join(found)}: without class token and prompts')
        images = by_image(list(found.values()))
        stems = Counter(Path(shown[0].name).stem for shown in images if shown[0])
        args.out.mkdir(parents=True, exist_ok=True)
        for head in heads_of(args.head, min(heads)):
            for shown in images:
                first = shown[0]
                if first is None:  # an image of another run's data
                    continue
                rows = {}
                for name, picture in zip(found, shown, strict=True):
                    if picture is not None:
                        rows.update(rows_of(name, picture, head))
                stem = Path(first.name).stem
                stem = stem if stems[stem] == 1 else f'{stem}_{first.index}'
                suffix = '' if head is None else f'_head{head}'
                path = args.out / f'{stem}{suffix}.png'
                draw_attention(path, first.pixels, rows)
                print(path)


if __name__ == '__main__':
    main()
