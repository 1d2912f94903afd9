"""Tables of the small runs: mean and deviation over seeds, longer runs, and mean ranks."""

from collections import defaultdict
from statistics import mean
from typing import Dict, List

from lspt_mm.recipes.methods import METHODS
from lspt_mm.search.protocol import mean_and_deviation
from lspt_mm.search.ranking import mean_ranks
from lspt_mm.search.small_plan import ABLATIONS, LENGTHS, SEEDS


def tables_of(rows: List[dict]) -> str:
    """Markdown: a table for each of the rows' tables, longer runs, and mean ranks over all tasks.

    Args:
        rows: As ``SmallTables.write`` returns them.
    """
    scores: Dict[str, Dict[str, Dict[str, list]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    trained = {}
    for row in sorted(rows, key=lambda row: int(row['seed'])):
        if row['phase'] == 'final':
            scores[row['table']][row['method']][row['task']].append(float(row['score']))
            trained[row['table'], row['method']] = int(row['trained'])
    lines = []
    for table, by_method in scores.items():
        tasks = list(dict.fromkeys(task for found in by_method.values() for task in found))
        lines += [f'| {table} | trained in the ViT | {" | ".join(tasks)} | mean |',
                  '|---' * (len(tasks) + 3) + '|']

        def overall(method: str, by_method=by_method, tasks=tasks) -> float:
            found = by_method[method]
            return mean(map(mean, found.values())) if len(found) == len(tasks) else -1

        for method in sorted(by_method, key=overall, reverse=True):
            cells = [mean_and_deviation(by_method[method][task]) if task in by_method[method]
                     else '' for task in tasks]
            whole = overall(method)
            lines.append(
                f'| {METHODS[method].title if method in METHODS else method} '
                f'| {trained[table, method]:,} | {" | ".join(cells)} '
                f'| {"" if whole < 0 else f"{whole:.2f}"} |'
            )
        lines.append('')
    return '\n'.join([*lines, *_longer(rows), *_ranks(scores)]) + '\n'


def _longer(rows: List[dict]) -> List[str]:
    """Runs of one seed by length, where all lengths are there."""
    phases = ('final', *LENGTHS)
    found: Dict[str, Dict[str, Dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row['phase'] in phases and int(row['seed']) == SEEDS[0]:
            found[row['method']][row['task']][row['phase']] = row['score']
    tasks = list(dict.fromkeys(
        task for of_method in found.values() for task, scores in of_method.items()
        if len(scores) == len(phases)
    ))
    if not tasks:
        return []
    times = ', '.join(map(str, (1, *LENGTHS.values())))
    lines = [f'| seed {SEEDS[0]}, {times} times as long | {" | ".join(tasks)} |',
             '|---' * (len(tasks) + 1) + '|']
    for method, of_method in found.items():
        if all(len(of_method[task]) == len(phases) for task in tasks):
            cells = [', '.join(of_method[task][phase] for phase in phases) for task in tasks]
            lines.append(f'| {METHODS[method].title} | {" | ".join(cells)} |')
    return [*lines, '']


def _ranks(scores: dict) -> List[str]:
    """Mean ranks of the methods that every task has with equally many seeds; no ablations."""
    by_task: Dict[str, Dict[str, list]] = defaultdict(dict)
    for by_method in scores.values():
        for method, found in by_method.items():
            for task, values in found.items():
                if len(values) > 1 and method not in ABLATIONS:  # not the fit
                    by_task[task][method] = values
    whole = [
        method for method in dict.fromkeys(m for found in by_task.values() for m in found)
        if len({len(found.get(method, ())) for found in by_task.values()}) == 1
    ]
    if len(whole) < 2:
        return []
    ranks = mean_ranks({task: {m: found[m] for m in whole} for task, found in by_task.items()})
    lines = [f'| mean rank over {", ".join(by_task)} | rank | 95 % interval | to the first |',
             '|---|---|---|---|']
    for method, rank in ranks.items():
        gap = f'{rank.gap:.2f} ± {rank.gap_error:.2f}' if len(lines) > 2 else ''
        lines.append(
            f'| {METHODS[method].title} | {rank.mean:.2f} | {rank.low:.2f} to {rank.high:.2f} '
            f'| {gap} |'
        )
    return lines
