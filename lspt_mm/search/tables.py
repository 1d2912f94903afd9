"""Build the papers' tables from folders of searches: accuracies per data set, group means."""

from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from lspt_mm.config.benchmarks import FGVC_TASKS, VTAB_TASKS
from lspt_mm.errors import InputError
from lspt_mm.recipes import (
    BENCHMARKS,
    METHODS,
    PRETRAININGS,
    published_results,
)
from lspt_mm.recipes.published_results import GROUPS
from lspt_mm.recipes.vits import name_of
from lspt_mm.search.formats import LEFT, Table
from lspt_mm.search.protocol import mean_and_deviation, read_result

#: The two means that papers call "the mean" of VTAB-1K.
OF_TASKS, OF_GROUPS = 'mean of 19 tasks', 'mean of 3 groups'
#: The pre-training of a ViT that was not pre-trained.
RANDOM = 'random'
_NOT_OFFICIAL = ' (not the official split)'


class Row(NamedTuple):
    """Key of a row of a table: pre-training, ViT, method."""

    pretraining: str
    arch: str
    patch_size: int
    img_size: int
    method: str
    head: str = 'paper'

    @property
    def vit(self) -> str:
        """Such as ``base/16, 224 px``; a fitted head is named."""
        fitted = ', fitted head' * (self.head == 'fitted')
        return f'{self.arch}/{self.patch_size}, {self.img_size} px{fitted}'

    @property
    def as_published(self) -> bool:
        """Whether ViT and head are those of the published tables."""
        mine = self.arch, self.patch_size, self.img_size, self.head
        return mine == ('base', 16, 224, 'paper')


class Entry(NamedTuple):
    """Results of an experiment's final runs: accuracies of its seeds, trainable parameters."""

    accuracies: Tuple[float, ...]
    trainable: int
    official: bool = True

    @property
    def text(self) -> str:
        """Mean, and sample standard deviation over seeds where there are two or more."""
        return mean_and_deviation(self.accuracies) + _NOT_OFFICIAL * (not self.official)


#: Row to data set to entry.
Entries = Dict[Row, Dict[str, Entry]]


def collect(folders: Iterable[Path]) -> Dict[str, Entries]:
    """Final runs below ``folders``, by benchmark.

    Raises:
        InputError: If a folder holds none, or if an experiment was run in two places.
    """
    found: Dict[str, Dict[Row, Dict[str, tuple]]] = defaultdict(lambda: defaultdict(dict))
    runs: Dict[Path, None] = {}
    for folder in map(Path, folders):
        below = sorted(folder.rglob('final/seed=*/result.json'))
        if not below:
            raise InputError(f'{folder}: no final run of tools/search.py below it')
        runs.update(dict.fromkeys(path.resolve() for path in below))  # folders may overlap
    for path in runs:
        result = read_result(path.parent)
        experiment = result.get('experiment')
        if experiment is None:
            continue  # a config of the user's own, without a benchmark
        row, task = _place(path, experiment, result)
        of_row = found[experiment['benchmark']][row]
        search, results = of_row.setdefault(task, (path.parents[1], []))
        if search != path.parents[1]:
            raise InputError(
                f'{experiment["name"]} was run in two places, {search} and {path.parents[1]}; name '
                'the folders for the table one by one'
            )
        results.append(result)
    return {
        benchmark: {
            row: {task: _entry(results) for task, (_, results) in tasks.items()}
            for row, tasks in rows.items()
        }
        for benchmark, rows in found.items()
    }


def _place(path: Path, experiment: dict, result: dict) -> Tuple[Row, str]:
    """Row and column of a run."""
    missing = {*Row._fields, 'benchmark', 'task', 'name'} - set(experiment)
    if missing:
        raise InputError(f'{path}: its experiment lacks {", ".join(sorted(missing))}')
    row = Row(*(experiment[name] for name in Row._fields))
    if isinstance(row.arch, dict):
        row = row._replace(arch='{embed_dims} wide, {num_layers} blocks'.format(**row.arch))
    # A random ViT is not pre-trained, whatever the experiment's name.
    if 'weights' in result and result['weights'] is None:
        row = row._replace(pretraining=RANDOM)
    task = Path(str(experiment['task'])).name
    tasks = BENCHMARKS.get(experiment['benchmark'], ())
    known = row.method in METHODS
    if known and result.get('prompter') not in (None, _prompter_of(row.method)):
        row = row._replace(method=result['prompter'])  # the config's own, in place of the method's
    if not known or (tasks is not None and task not in tasks):
        raise InputError(f'{path}: {experiment["name"]} belongs to none of the benchmarks')
    return row, task


def _prompter_of(method: str) -> str:
    return (METHODS[method].prompter or {'type': ''})['type'].split('.')[-1]


def _method_title(method: str) -> str:
    return METHODS[method].title if method in METHODS else method


def _entry(results: Sequence[dict]) -> Entry:
    trained = results[0]['trainable']
    return Entry(
        tuple(result['accuracy'] for result in results),
        trained['prompts'] + trained['backbone'],
        all(result['experiment']['official'] for result in results),
    )


def table_of(benchmark: str, entries: Entries) -> Table:
    """The benchmark's table: ours, and below each row the published figures where there are any."""
    columns = columns_of(benchmark, entries)
    rows = []
    for row in sorted(entries, key=_order):
        own = entries[row]
        cells = {task: entry.text for task, entry in own.items()}
        values = {task: mean(entry.accuracies) for task, entry in own.items()}
        odd = [task for task, entry in own.items() if not entry.official]
        for name, value in means(benchmark, values).items():
            over = tasks_of(name) if name in GROUPS else values
            cells[name] = f'{value:.2f}' + _NOT_OFFICIAL * any(task in over for task in odd)
        title = _method_title(row.method)
        parameters = mean(entry.trainable for entry in own.values())
        seeds = sorted({len(entry.accuracies) for entry in own.values()})
        rows.append([
            title, name_of(row.pretraining), row.vit, f'{parameters / 1e6:.3f}', ' to '.join(
                map(str, dict.fromkeys((seeds[0], seeds[-1])))
            ), 'ours', *(cells.get(column, '-') for column in columns),
        ])
        published = published_row(benchmark, row, columns)
        if published is not None:
            rows.append([title, row.pretraining, row.vit, '-', '-', *published])
    header = [*LEFT, *map(_title, columns)]
    return Table(header, rows)


def columns_of(benchmark: str, entries: Entries) -> List[str]:
    """Data sets in the paper's order, each group followed by its mean, and the means."""
    if benchmark == 'fgvc':
        return [*FGVC_TASKS, 'mean']
    if benchmark == 'vtab1k':
        columns = []
        for group in GROUPS:
            columns += [*tasks_of(group), group]
        return [*columns, OF_TASKS, OF_GROUPS]
    return sorted({task for tasks in entries.values() for task in tasks})


def means(benchmark: str, values: Dict[str, float]) -> Dict[str, float]:
    """The means of complete groups only: a mean over some data sets is not comparable."""
    if benchmark == 'fgvc':
        complete = set(FGVC_TASKS) <= set(values)
        return {'mean': mean(values[task] for task in FGVC_TASKS)} if complete else {}
    if benchmark != 'vtab1k':
        return {}
    result = {}
    for group in GROUPS:
        tasks = tasks_of(group)
        if set(tasks) <= set(values):
            result[group] = mean(values[task] for task in tasks)
    if len(result) == len(GROUPS):
        of_groups = mean(result.values())
        result[OF_TASKS] = mean(values[task] for task in VTAB_TASKS)
        result[OF_GROUPS] = of_groups
    return result


def tasks_of(group: str) -> List[str]:
    """The tasks of one of VTAB-1K's groups."""
    return [name for name, task in VTAB_TASKS.items() if task.group == group]


def published_row(benchmark: str, row: Row, columns: Sequence[str]) -> Optional[List[str]]:
    """Source and figures of the paper's row, or None."""
    tables = {'fgvc': published_results.FGVC, 'vtab1k': published_results.VTAB1K}
    found = tables.get(benchmark, {}).get((row.method, row.pretraining))
    if found is None or not row.as_published:
        return None
    source, values = found
    return [source, *(f'{values[c]:.2f}' if c in values else '-' for c in columns)]


def _order(row: Row):
    known = [*PRETRAININGS, RANDOM]
    place = known.index(row.pretraining) if row.pretraining in known else len(known)
    methods = list(METHODS)
    of_method = methods.index(row.method) if row.method in METHODS else len(methods)
    return place, row.pretraining, row.vit, of_method, row.method


def _title(column: str) -> str:
    for tasks in (FGVC_TASKS, VTAB_TASKS):
        if column in tasks:
            return tasks[column].title
    return column.capitalize() if column in GROUPS else column


def compact(table: Table) -> Table:
    """The table without the columns that have no results of ours."""
    ours = [row for row in table.rows if row[len(LEFT) - 1] == 'ours']
    kept = [
        i for i in range(len(table.header)) if i < len(LEFT) or any(row[i] != '-' for row in ours)
    ]
    header, *rows = ([line[i] for i in kept] for line in (table.header, *table.rows))
    return Table(header, rows)
