"""Parameters, trainable parameters and FLOPs of a config's model, by parts.

python tools/analysis_tools/get_flops.py configs/lspt_upernet_ade20k.py
python tools/analysis_tools/get_flops.py configs/camvid/vpt-deep_upernet_camvid.py --shape 360 480
python tools/analysis_tools/get_flops.py vtab1k/lspt_mae_eurosat --json costs.json

One image, forward pass in eval mode, no weights needed. A multiplication with its addition is 2
FLOPs and 1 MAC; what OpenMMLab's tools and papers call FLOPs are mostly MACs. Matrix products,
convolutions and attention are counted; element-wise operations are not.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from lspt_mm.config.options import KeyValueAction
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import check_writable, input_errors_as_messages, tool_parser
from lspt_mm.utils.text import format_table

if TYPE_CHECKING:
    from lspt_mm.analysis.flops import Costs


def parse_args() -> argparse.Namespace:
    """Options."""
    parser = tool_parser(__doc__)
    parser.add_argument('config', help='config, FILE:name=value,... or the name of an experiment')
    parser.add_argument(
        '--shape', type=int, nargs='+', metavar='PIXELS',
        help="height and width of the image, or its side; default: the backbone's img_size",
    )
    parser.add_argument('--cfg-options', nargs='+', action=KeyValueAction, metavar='KEY=VALUE')
    parser.add_argument('--json', type=Path, help='file for the numbers as well')
    return parser.parse_args()


def table(costs: Costs) -> str:
    """The costs as text."""
    rows = [('part', 'trainable', 'parameters', 'GMACs', 'GFLOPs')]
    for part in [*costs.parameters, *(p for p in costs.flops if p not in costs.parameters)]:
        rows.append(_row(part, costs, [part]))
    everything = {*costs.parameters, *costs.flops}
    rows.append(_row('all', costs, everything))
    return format_table(rows, '<>>>>')


def _row(name, costs: Costs, parts):
    trainable, parameters, flops = (
        sum(of.get(part, 0) for part in parts)
        for of in (costs.trainable, costs.parameters, costs.flops)
    )
    work = (f'{flops / 2e9:,.3f}', f'{flops / 1e9:,.3f}') if flops or name == 'all' else ('', '')
    return (name, f'{trainable:,}', f'{parameters:,}', *work)


def main() -> None:
    """Count, and print the table."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        from lspt_mm.analysis.flops import model_costs
        from lspt_mm.config.load import apply_common_options, read_config

        size = args.shape
        if size is not None and (len(size) > 2 or min(size) < 1):
            raise InputError(f'--shape {size}: expected one or two numbers of pixels')
        cfg = read_config(args.config)
        apply_common_options(cfg, args.cfg_options, None)
        if args.json:
            check_writable(args.json.parent, f'--json {args.json}')
        costs = model_costs(cfg, None if size is None else (size[0], size[-1]))
        print(f'one image of {costs.size[0]} x {costs.size[1]} pixels, forward pass\n')
        print(table(costs))
        if args.json:
            args.json.write_text(json.dumps(costs._asdict(), indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
