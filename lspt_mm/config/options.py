"""Options that several tools have in common; imports nothing heavy, so that --help is quick."""

import argparse
from pathlib import Path
from typing import Any, Collection, List, Optional, Tuple

from lspt_mm.config.arguments import parse

#: The ViT of a run that names none.
DEFAULT_BACKBONE = 'timm:vit_small_patch14_dinov2.lvd142m'


class KeyValueAction(argparse.Action):
    """MMEngine's ``DictAction`` with an error for values that are not KEY=VALUE."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Parse KEY=VALUE pairs."""
        for value in values:
            if '=' not in value:
                parser.error(f'argument {option_string}: {value!r} is not of the form KEY=VALUE')
        from mmengine.config import DictAction

        DictAction(self.option_strings, self.dest)(parser, namespace, values, option_string)


def at_least_one(text: str) -> int:
    """A number of at least 1, as the type of an option."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'{text}: expected at least 1')
    return number


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing have in common."""
    parser.add_argument(
        'config', help='config file, or the name of one in this package; FILE:name=value,... for '
        'one that takes arguments; or the name of an experiment such as vtab1k/lspt_mae_eurosat',
    )
    parser.add_argument('--work-dir', help='folder for logs and checkpoints')
    parser.add_argument('--data-root', help="folder of the data, instead of the config's")
    parser.add_argument(
        '--cfg-options', nargs='+', action=KeyValueAction, metavar='KEY=VALUE',
        help="change values of the config, e.g. train_cfg.max_iters=100 or key='[a,b]'",
    )
    parser.add_argument(
        '--launcher', choices=('none', 'pytorch', 'slurm'), default='none',
        help='job launcher; dist_train.sh and slurm_train.sh set it',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def take_checkpoint(
    parser: argparse.ArgumentParser, run: str, paths: List[Any], what: str,
    most: Optional[int] = None,
) -> Optional[str]:
    """The checkpoint, first of the ``paths`` after a config, taken out; None after a run's folder.

    Args:
        parser: For errors: without a path left, or with more than ``most``.
        run: Config or folder.
        paths: What follows on the command line.
        what: The other paths, for the message.
        most: How many of them there may be.
    """
    is_folder = Path(run).is_dir()
    checkpoint = None if is_folder else str(paths.pop(0))
    if not paths or most is not None and len(paths) > most:
        parser.error(
            f'{run} is {"a" if is_folder else "no"} folder: expected RUN_FOLDER {what}, or CONFIG '
            f'CHECKPOINT {what}'
        )
    return checkpoint


def add_comparison_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the common options of tools that compare finished runs."""
    parser.add_argument('runs', nargs='+', metavar='[NAME=]WORK_DIR', help='runs to compare')
    parser.add_argument(
        '--split', choices=('train', 'val', 'test'), default='val', help='data to look at'
    )
    parser.add_argument('--pretrained', help="file of the ViT's weights, instead of the configs'")
    parser.add_argument('--data-root', help="folder of the data, instead of the configs'")
    parser.add_argument('--device', help='cpu, cuda, cuda:1, ... (default: a GPU if there is one)')


def add_run_arguments(
    parser: argparse.ArgumentParser, methods: Collection[str], further: str
) -> None:
    """Add all options of training with one command, except those for its data.

    Args:
        parser: The parser to add them to.
        methods: Choices of ``--method``.
        further: Names of some of the recipe's further arguments.
    """
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of the run')
    parser.add_argument('--backbone', default=DEFAULT_BACKBONE, help='timm:NAME or a file')
    parser.add_argument('--method', choices=methods, default='lspt', metavar='NAME',
                        help=', '.join(methods))
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument('--resume', action='store_true', help='resume from the last checkpoint')
    parser.add_argument(
        '--options', nargs='+', action='extend', type=_option, default=[], metavar='KEY=VALUE',
        help=f'further arguments ({further} ...), or keys of the config with dots',
    )
    parser.add_argument(
        '-v', '--verbose', action='store_true', help="print MMEngine's log, not a line of progress"
    )


def _option(text: str) -> Tuple[str, Any]:
    name, equals, value = text.partition('=')
    if not equals:
        raise argparse.ArgumentTypeError(f'{text!r} is not of the form KEY=VALUE')
    return name, parse(value)
