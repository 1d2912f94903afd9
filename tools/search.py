"""Search hyper-parameters on validation data, then train with several seeds and test each once.

python tools/search.py vtab1k/lspt_mae_eurosat --grid lr=0.05,0.1,0.25 num_tokens=5,10 --jobs 2

The test data are not read before the choice is made. After a kill, the same command resumes the
search; finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lspt_mm.config.arguments import parse, split_arguments, split_list
from lspt_mm.config.options import KeyValueAction, at_least_one
from lspt_mm.errors import InputError
from lspt_mm.search.grid import Outcome, expand_grid, name_of
from lspt_mm.utils.cli import check_writable, input_errors_as_messages

if TYPE_CHECKING:
    from lspt_mm.search.protocol import Search


def parse_args() -> argparse.Namespace:
    """Options of a search."""
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n')[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        'config', help='FILE, FILE:name=value,... or an experiment (vtab1k/lspt_mae_eurosat)'
    )
    parser.add_argument(
        '--grid', nargs='+', action='extend', metavar='NAME=V1,V2',
        help="values to try: of a transfer.py's arguments (lr=0.1,0.5), or of any config's keys\n"
        "(optim_wrapper.optimizer.lr=0.1,0.5); by default the method's published grid;\n"
        '--grid none: no selection',
    )
    parser.add_argument('--work-dir', type=Path, help='folder of the search')
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[42, 44, 82, 100, 800],
        help="seeds of the final runs (default: VPT's five)",
    )
    parser.add_argument('--selection-seed', type=int, default=42, help='seed of the selection runs')
    parser.add_argument(
        '--final-on', choices=('train+val', 'train'), default=None,
        help='what the final runs are trained on (default: for FGVC train, as its papers)',
    )
    parser.add_argument('--select-only', action='store_true', help='stop before the test')
    parser.add_argument('--dry-run', action='store_true', help='list the runs and stop')
    parser.add_argument(
        '--no-check', action='store_true',
        help='start without reading every file first (of training and validation data)',
    )
    parser.add_argument('--data-root', help="folder of the data, instead of the config's")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument('--pretrained', help="the ViT's weights, instead of the config's")
    weights.add_argument('--random-backbone', action='store_true', help='a random ViT, on purpose')
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument(
        '--cfg-options', nargs='+', action=KeyValueAction, metavar='KEY=VALUE',
        help='change values of the config in all runs',
    )
    parser.add_argument(
        '--jobs', type=at_least_one, help='runs at once (default: one per GPU, or one)'
    )
    parser.add_argument(
        '--launcher', choices=('local', 'slurm'), default='local',
        help='where runs are executed',
    )
    parser.add_argument(
        '--launcher-options', nargs='+', action=KeyValueAction, metavar='KEY=VALUE', default={},
        help='parameters of submitit for SLURM (slurm_partition=gpu timeout_min=600)',
    )
    parser.add_argument('--debug', action='store_true', help='show tracebacks of input errors')
    return parser.parse_args()


def grid_from(args: argparse.Namespace) -> dict:
    """The grid that was asked for, or the method's own."""
    from lspt_mm.config.load import read_config
    from lspt_mm.recipes import Experiment, default_grid

    fixed = split_arguments(args.config)[1]
    if args.grid == ['none']:
        if args.select_only:
            raise InputError('--grid none --select-only: nothing to run; expected one of the two')
        return {}
    if args.grid is None:
        experiment = read_config(args.config).get('experiment')
        if experiment is None:
            raise InputError('--grid: this config has no grid of its own, name the values to try')
        grid = default_grid(Experiment.from_dict(experiment))
        # What the user has fixed is not searched.
        grid = {name: values for name, values in grid.items() if name not in fixed}
        if not grid and args.select_only:
            raise InputError('--select-only: the grid is empty; name values to try with --grid')
        return grid
    grid = {}
    for text in args.grid:
        name, equals, values = text.partition('=')
        if not name or not equals or not values:
            raise InputError(f'--grid {text}: expected NAME=VALUE,VALUE,...')
        if name in grid:
            raise InputError(f'--grid: {name} is given twice')
        if name in fixed:
            raise InputError(f'--grid {name}: the config already has {name}={fixed[name]!r}')
        grid[name] = [whole(parse(value)) for value in split_list(values)]
    return grid


def whole(value):
    """1.0 as 1, so that equal points are not two."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def value_at(node, key: str):
    """The value at a dotted key of a config; None without one."""
    for part in key.split('.'):
        if isinstance(node, (list, tuple)):
            node = node[int(part)] if part.isdigit() and int(part) < len(node) else None
        else:
            node = node.get(part) if isinstance(node, dict) else None
    return node


def config_maker(args: argparse.Namespace):
    """From a point of the grid to a run's config."""
    from lspt_mm.config.load import (
        apply_common_options,
        choose_weights,
        read_config,
        turn_on_amp,
    )
    from lspt_mm.search.plan import split_point

    replaced = {}

    def config_of(point: dict):
        named, dotted = split_point(point)
        cfg = read_config(args.config, named)
        for key in args.cfg_options or {}:
            value = value_at(cfg._cfg_dict, key)
            if replaced.setdefault(key, value) != value:
                raise InputError(
                    f'--cfg-options {key}: the grid varies it ({replaced[key]}, {value}); expected '
                    'one of the two'
                )
        apply_common_options(cfg, {**(args.cfg_options or {}), **dotted}, args.data_root)
        choose_weights(cfg, args.pretrained, args.random_backbone)
        if args.amp:
            turn_on_amp(cfg)
        return cfg

    kept = {}

    def once(point: dict):
        """The config of a point, cached, as reading one takes a while."""
        if name_of(point) not in kept:
            kept[name_of(point)] = config_of(point)
        return kept[name_of(point)]

    return once


def launcher_from(args: argparse.Namespace, folder: Path):
    """The launcher that executes the runs."""
    from lspt_mm.search.launcher import Launcher

    if args.launcher == 'local' and args.launcher_options:
        raise InputError('--launcher-options: only with --launcher slurm')
    return Launcher(folder / 'submitit', args.launcher, args.jobs, args.launcher_options)


def list_runs(search: Search, grid: dict, select_only: bool) -> None:
    """Print the runs without starting them."""
    for point in search.points if grid else []:
        print(search.selection_folder(point))
    if not select_only:
        for seed in search.seeds:
            print(search.final_folder(seed))


def check_configs(search: Search, grid: dict, select_only: bool) -> None:
    """Check the config of every point before the first run."""
    from lspt_mm.search.plan import check_grid_is_used, final_config, selection_config

    check_grid_is_used(grid, search.points, search.config_of)
    for point in search.points:
        cfg = search.config_of(point)
        if grid:
            selection_config(cfg, 0)
        if not select_only:
            final_config(cfg, 0, search.final_on)


def check_files(search: Search, grid: dict, select_only: bool, read_all: bool) -> None:
    """Check data and weights before the first run; of the test data only that they exist."""
    from lspt_mm.config.preflight import check_inputs
    from lspt_mm.datasets.verify import check_data
    from lspt_mm.search.plan import final_config, selection_config

    first = search.config_of(search.points[0])
    if not select_only:
        final = final_config(first, 0, search.final_on)
        check_inputs(final, ('train_dataloader', 'test_dataloader'))
        if read_all and not grid:
            check_data(final, ('train_dataloader',))
    if grid:
        selection = selection_config(first, 0)
        check_inputs(selection, ('train_dataloader', 'val_dataloader'))
        if read_all:
            check_data(selection, ('train_dataloader', 'val_dataloader'))


def run_search(search: Search, grid: dict, select_only: bool) -> None:
    """The two phases, with a progress bar."""
    from lspt_mm.search.protocol import RESULTS, mean_and_deviation, read_result
    from lspt_mm.tasks import task_of

    console = Console(stderr=True)
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(),
               TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task('selection' if grid else 'final', total=None)

        def on_progress(done: int, total: int, line: str) -> None:
            progress.update(task, completed=done, total=total)
            if line:
                progress.console.print(
                    f'[{done}/{total}] {line}', markup=False, highlight=False, soft_wrap=True
                )

        search.on_progress = on_progress
        chosen = search.select() if grid else Outcome({}, float('nan'))
        if grid:
            baseline = read_result(search.selection_folder(chosen.point)).get('baseline')
            beside = '' if baseline is None else (
                f'; logistic regression on frozen features: {baseline:.2f}'
            )
            console.print(
                f'chosen: {name_of(chosen.point)}, {chosen.accuracy:.2f} on validation data'
                + beside, markup=False, highlight=False, soft_wrap=True,
            )
        if select_only:
            return
        progress.update(task, description='final')
        accuracies = search.finish(chosen)
    metric = task_of(search.config_of(chosen.point)).metric
    print(
        f'{search.folder}: test {metric} {mean_and_deviation(accuracies)} ({len(accuracies)} seeds)'
    )
    print(f'all runs: {search.folder / RESULTS}')


def main() -> None:
    """Search."""
    args = parse_args()
    # A terminated search ends its runs, as an interrupted one does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with input_errors_as_messages(args.debug):
        from lspt_mm.config.load import work_dir_of
        from lspt_mm.engine.work_dir import lock_work_dir
        from lspt_mm.search.plan import seeds_checked
        from lspt_mm.search.protocol import Search

        grid = grid_from(args)
        config_of = config_maker(args)
        points = expand_grid(grid)
        folder = args.work_dir or Path(f'{work_dir_of(config_of(points[0]), args.config)}_search')
        search = Search(
            folder, config_of, points, launcher=None, seeds=seeds_checked(args.seeds),
            selection_seed=args.selection_seed, final_on=args.final_on,
        )
        check_configs(search, grid, args.select_only)
        if args.dry_run:
            return list_runs(search, grid, args.select_only)
        check_files(search, grid, args.select_only, not args.no_check)
        check_writable(folder, f'--work-dir {folder}')
        lock = lock_work_dir(str(folder))
        search.launcher = launcher_from(args, folder)
        run_search(search, grid, args.select_only)
        lock.release()


if __name__ == '__main__':
    main()
