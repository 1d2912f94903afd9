"""Options shared by the tools that train on a folder of data with one command."""

import argparse
from pathlib import Path
from typing import Any, Collection, Tuple

from lspt_mm.config.arguments import parse

#: The ViT of a run that names none.
DEFAULT_BACKBONE = 'timm:vit_small_patch14_dinov2.lvd142m'


def add_run_arguments(
    parser: argparse.ArgumentParser, methods: Collection[str], further: str
) -> None:
    """Add all options of a run except those for its data.

    Args:
        parser: The parser to add them to.
        methods: Choices of ``--method``.
        further: Names of some of the recipe's further arguments.
    """
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of the run')
    parser.add_argument('--backbone', default=DEFAULT_BACKBONE, help='timm:NAME or a file')
    parser.add_argument('--method', choices=methods, default='lspt', metavar='NAME',
                        help=', '.join(methods))  # fmt: skip
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--resume', action='store_true', help='resume from the last checkpoint')
    parser.add_argument(
        '--options', nargs='+', type=_option, default=[], metavar='KEY=VALUE',
        help=f'further arguments ({further} ...), or keys of the config with dots',
    )  # fmt: skip
    parser.add_argument(
        '-v', '--verbose', action='store_true', help="print MMEngine's log, not a line of progress"
    )
    parser.add_argument('--debug', action='store_true', help='show tracebacks of input errors')


def _option(text: str) -> Tuple[str, Any]:
    name, equals, value = text.partition('=')
    if not equals:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form KEY=VALUE')
    return name, parse(value)
