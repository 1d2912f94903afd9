"""Measure time, memory and FLOPs of prompt methods against the plain ViT and the reference.

python -m lspt_mm benchmark --out work_dirs/benchmark/train
python -m lspt_mm benchmark --inference --batch 1 8
python -m lspt_mm benchmark --methods gated --with-cp off on selective
python -m lspt_mm benchmark --methods vpt-deep lspt --num-tokens 10 50 100 200
python -m lspt_mm benchmark --methods vpt-deep lspt --num-layers 3 6 12 24
python -m lspt_mm benchmark --arch timm:vit_small_patch16_dinov3 --img-size 256 --batch 4
python -m lspt_mm benchmark --configs configs/ade20k/full_upernet_ade20k.py \\
    configs/lspt_upernet_ade20k.py configs/ade20k/lspt_segformer_ade20k.py

Every combination of the options is a row. Without --configs: a ViT with a class-token head, forward
and backward pass; ``plain`` is the frozen ViT of mmpretrain or timm with a gradient with respect to
its tokens, ``(reference)`` the method as papers describe it. With --configs: the model of a
segmentation config with AdamW, by default 512 pixels and batch 2. Writes OUT.md and OUT.csv.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import platform
from pathlib import Path
from typing import TYPE_CHECKING, List

from lspt_mm.errors import InputError
from lspt_mm.recipes.methods import METHODS
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser

if TYPE_CHECKING:
    from projects.benchmark.cases import Case

CHECKPOINTING = {'off': False, 'on': True, 'selective': 'selective'}


def parse_args() -> argparse.Namespace:
    """Options."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        '--methods', nargs='+', choices=METHODS, help='default: all with prompts, and LoRA'
    )
    parser.add_argument(
        '--reference', nargs='*', choices=METHODS, default=['vpt-deep', 'gated', 'lspt'],
        help='methods to run also as papers describe them',
    )
    parser.add_argument('--configs', nargs='+', help='segmentation configs instead of methods')
    parser.add_argument('--inference', action='store_true', help='forward pass in eval mode')
    parser.add_argument('--arch', nargs='+', default=['base'], help="mmpretrain's names, timm:NAME")
    parser.add_argument('--batch', nargs='+', type=int, help='default: 8, with --configs 2')
    parser.add_argument('--img-size', nargs='+', type=int, help='default: 224, with --configs 512')
    parser.add_argument('--num-layers', nargs='+', type=int, help="blocks; default: the arch's")
    parser.add_argument('--num-tokens', nargs='+', type=int, default=[100])
    parser.add_argument('--dtype', nargs='+', choices=('fp32', 'bf16'), default=['fp32'])
    parser.add_argument('--with-cp', nargs='+', choices=CHECKPOINTING, default=['off'])
    parser.add_argument('--compile', action='store_true', help="compile the ViT's blocks")
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument('--threads', type=int, help='PyTorch threads on the CPU')
    parser.add_argument('--rounds', type=int, default=5, help='steps timed of each row')
    parser.add_argument('--no-memory', action='store_true', help='leave peak memory out')
    parser.add_argument('--out', help='name of the files to write; by default the table is printed')
    return parser.parse_args()


def cases_of(args: argparse.Namespace) -> List[Case]:
    """All combinations of the options, the plain ViT first in each."""
    from projects.benchmark import cases as benchmark
    from projects.benchmark.cases import PLAIN, REFERENCE, Case, of_timm

    methods = args.methods or benchmark.METHODS
    for name in (*methods, *args.reference):
        if name not in benchmark.METHODS:
            raise InputError(
                f'{name}: no method with prompts alone; expected of {", ".join(benchmark.METHODS)}'
            )
    if args.configs:
        names = [(path, _model_of(path)) for path in args.configs]
        batches, sizes = args.batch or [2], args.img_size or [512]
        archs, depths, numbers = [None], [None], [0]  # the configs' own
    else:
        names = [(PLAIN, None), *((name, None) for name in methods)]
        names += [(name + REFERENCE, None) for name in methods if name in args.reference]
        batches, sizes = args.batch or [8], args.img_size or [224]
        archs, depths, numbers = args.arch, args.num_layers or [None], args.num_tokens
    given = dict(
        batch=batches, img_size=sizes, num_tokens=args.num_tokens, rounds=[args.rounds],
        threads=[args.threads or 1], num_layers=args.num_layers or [1],
    )
    for name, values in given.items():
        if min(values) < 1:
            raise InputError(f'--{name.replace("_", "-")} {min(values)}: expected at least 1')
    cases = []
    for arch, depth, batch, size, tokens, dtype, with_cp in itertools.product(
        archs, depths, batches, sizes, numbers, args.dtype, args.with_cp
    ):
        for name, config in names:
            if of_timm(arch) and name.endswith(REFERENCE):
                continue  # written for mmpretrain's
            # Options that a reference ignores make no second row of it.
            fixed = name == PLAIN or name.endswith(REFERENCE)
            case = Case(
                name=name, training=not args.inference, batch=batch, img_size=size, arch=arch,
                num_layers=depth, num_tokens=0 if name in (PLAIN, 'lora') else tokens, dtype=dtype,
                device=args.device, with_cp=False if fixed else CHECKPOINTING[with_cp],
                compile_blocks=args.compile and not fixed, config=config,
            )
            if case not in cases:
                cases.append(case)
    return cases


def _model_of(path: str) -> dict:
    from lspt_mm.config.load import read_config
    from lspt_mm.tasks import task_of

    cfg = read_config(path)
    if not task_of(cfg).dense:
        raise InputError(f'{path}: not a segmentation config')
    return cfg.model.to_dict()


#: Column, its heading, how it is written.
COLUMNS = [
    ('seconds', 'step, s', '{:.3f}'),
    ('times', 'times plain', '{:.2f}'),
    ('gflops', 'GFLOP', '{:,.0f}'),
    ('fraction', 'of the matrix rate', '{:.2f}'),
    ('peak', 'peak, GB', '{:.2f}'),
    ('before', 'before the step, GB', '{:.2f}'),
    ('tensors', "step's tensors, GB", '{:.2f}'),
]


def settings_that_differ(rows: List[dict], settings: List[str]) -> List[str]:
    """Those of ``settings`` that are not the same in all rows with prompts."""
    from projects.benchmark.cases import PLAIN

    # The plain ViT and LoRA have no prompts; that is not a difference in their number.
    prompted = [row for row in rows if row['name'] not in (PLAIN, 'lora')]
    return [name for name in settings if len({str(row[name]) for row in prompted}) > 1]


def markdown(rows: List[dict], differing: List[str]) -> str:
    """The table; ``differing`` are settings that are not the same in all rows."""
    # NaN is not equal to itself.
    columns = [c for c in COLUMNS if all(r.get(c[0]) == r.get(c[0], math.nan) for r in rows)]
    lines = ['| | ' + ' | '.join([*differing, *(heading for _, heading, _ in columns)]) + ' |']
    lines.append('|---' * (len(differing) + len(columns) + 1) + '|')
    for row in rows:
        cells = [str(row[name]) for name in differing]
        cells += [layout.format(row[key]) for key, _, layout in columns]
        lines.append(f'| {row["name"]} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def machine(args: argparse.Namespace) -> str:
    """Where this was measured, in a line."""
    import torch

    if args.device == 'cuda':
        name = torch.cuda.get_device_name()
    else:
        about = Path('/proc/cpuinfo')  # of Linux
        lines = about.read_text().splitlines() if about.is_file() else []
        found = [line.split(':')[1].strip() for line in lines if 'model name' in line]
        name = f'{found[0] if found else platform.machine()}, {torch.get_num_threads()} threads'
    return f'{name}, torch {torch.__version__}'


def main() -> None:
    """Measure, and write the table."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        import torch

        from projects.benchmark.measure import measure_memory, measure_times, relative_to_plain

        if args.device == 'cuda' and not torch.cuda.is_available():
            raise InputError('--device cuda: this machine has no GPU')
        cases = cases_of(args)
        if args.threads:
            torch.set_num_threads(args.threads)
        rows = [
            {**case.settings(), **found}
            for case, found in zip(cases, measure_times(cases, args.rounds), strict=True)
        ]
        for case, row in zip(cases, rows, strict=True):
            if not args.no_memory:
                found = measure_memory(case)
                row.update({key: value / 1e9 for key, value in found.items()})
    settings = list(cases[0].settings())[1:]
    differing = settings_that_differ(rows, settings)
    relative_to_plain(rows)
    table = markdown(rows, differing)
    last = max(rows, key=lambda row: row['num_tokens'])
    said = ', '.join(f'{name} {last[name]}' for name in settings if name not in differing)
    rates = ', '.join(f'{rate:,.0f}' for rate in dict.fromkeys(row['rate'] for row in rows))
    text = f'{machine(args)}; {rates} GFLOP/s in a matrix product; {said}\n\n{table}\n'
    print(text)
    if args.out:
        out = Path(args.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_name(out.name + '.md').write_text(text)
        with open(out.with_name(out.name + '.csv'), 'w', newline='') as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == '__main__':
    main()
