"""What the tools from a folder to a trained run have in common: options, and how they end."""

import argparse
from pathlib import Path
from typing import Any, Callable, Collection, Dict, Tuple

from lspt_mm.config.arguments import parse
from lspt_mm.utils.cli import input_errors_as_messages


def add_run_arguments(
    parser: argparse.ArgumentParser, methods: Collection[str], further: str
) -> None:
    """The options of a run, but for its data.

    Args:
        parser: To add them to.
        methods: What ``--method`` may be.
        further: Names of some of the recipe's further arguments.
    """
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of the run')
    parser.add_argument(
        '--backbone', default='timm:vit_small_patch14_dinov2.lvd142m', help='timm:NAME or a file'
    )
    parser.add_argument('--method', choices=methods, default='lspt', metavar='NAME',
                        help=', '.join(methods))  # fmt: skip
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--resume', action='store_true', help='go on from the last checkpoint')
    parser.add_argument(
        '--options', nargs='+', type=_option, default=[], metavar='KEY=VALUE',
        help=f'further arguments ({further} ...), or keys of the config with dots',
    )  # fmt: skip
    parser.add_argument('--debug', action='store_true', help='show tracebacks of input errors')


def _option(text: str) -> Tuple[str, Any]:
    name, equals, value = text.partition('=')
    if not equals:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form KEY=VALUE')
    return name, parse(value)


def run_with_scores(train: Callable, args: Dict[str, Any]) -> None:
    """Train; print the scores of the last validation, and what to do next.

    Args:
        train: Takes ``args``, without ``debug``, and returns an :class:`lspt_mm.apis.Run`.
        args: Values of the options.
    """
    with input_errors_as_messages(args.pop('debug')):
        run = train(**{**args, 'options': dict(args['options'])})
        found = run.metrics
    width = max(map(len, found['classes']))
    for name, score in found['classes'].items():
        print(f'  {name:{width}}  ' + ('-' if score is None else f'{score:.2f}'))
    print(f'{found["metric"]} {found["value"]:.2f} on the validation images; next:')
    print(f'  python -m lspt_mm predict {run.folder} IMAGES --out found')
    print(f'  python -m lspt_mm report {run.folder} --out report.html')
