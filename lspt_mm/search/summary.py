"""Tables of the small runs: mean and deviation over seeds, differences, longer runs, ranks.

Mean ranks come twice: with LSPT, and with LSPT+ in its place.
"""

from collections import defaultdict
from statistics import fmean
from typing import Dict, List

import numpy as np

from lspt_mm.recipes.methods import METHODS
from lspt_mm.search.protocol import mean_and_deviation
from lspt_mm.search.ranking import mean_ranks
from lspt_mm.search.small_plan import (
    HEAD,
    LENGTHS,
    LSPT_PLUS,
    LSPT_VARIANTS,
    PROBES,
    RATES,
    SEEDS,
)

#: Methods that all others are compared with, seed by seed.
REFERENCES = ('bias', 'vpt-deep', LSPT_PLUS, 'lspt')
#: Method to task to the scores of the seeds.
Scores = Dict[str, Dict[str, List[float]]]


def tables_of(rows: List[dict]) -> str:
    """Markdown: for each of the rows' tables all methods, paired differences and ranks; longer
    runs; mean ranks over all tasks.

    Args:
        rows: As ``SmallTables.write`` returns them.
    """
    scores: Dict[str, Scores] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    facts = {}
    for row in sorted(rows, key=lambda row: int(row['seed'])):
        if row['phase'] == 'final':
            scores[row['table']][row['method']][row['task']].append(float(row['score']))
            if row['trained']:  # not of a run that diverged
                facts[row['table'], row['method']] = row
    lines = []
    rankings: List[List[Scores]] = []  # of each table
    for table, by_method in scores.items():
        lines += _methods(table, by_method, facts) + _differences(by_method)
        rankings.append(_rankings(by_method))
        for ranked in rankings[-1]:
            lines += _ranks(ranked)
    lines += _longer(rows)
    if len(rankings) > 1:
        for of_tables in zip(*rankings, strict=False):  # with LSPT+ where all tables have it
            first, *others = of_tables
            lines += _ranks({
                m: {task: s for found in of_tables for task, s in found[m].items()}
                for m in first if all(m in other for other in others)
            })
    return '\n'.join(lines) + '\n'


def _title(method: str) -> str:
    own = {HEAD: 'Head alone', **dict.fromkeys(PROBES.values(), METHODS['linear'].title)}
    return own.get(method) or METHODS[method].title


def _methods(table: str, by_method: Scores, facts: dict) -> List[str]:
    """All methods of a table, the best mean first."""
    tasks = list(dict.fromkeys(task for found in by_method.values() for task in found))

    def overall(method: str) -> float:
        found = by_method[method]
        whole = len(found) == len(tasks)
        return fmean(map(fmean, found.values())) if whole else float('nan')

    lines = [
        f'| {table} | trained in the ViT | rate | {" | ".join(tasks)} | mean | over the probe |',
        '|---' * (len(tasks) + 5) + '|',
    ]
    probe = PROBES.get(table, '')
    base = overall(probe) if probe in by_method else float('nan')
    for method in sorted(by_method, key=lambda m: -np.nan_to_num(overall(m))):
        row, whole = facts.get((table, method), dict(trained=0, lr='')), overall(method)
        cells = [mean_and_deviation(by_method[method][task]) if task in by_method[method] else ''
                 for task in tasks]
        gain = '' if method == probe or np.isnan(whole - base) else f'{whole - base:+.2f}'
        lines.append(
            f'| {_title(method)} | {int(row["trained"]):,} | {row["lr"]} '
            f'| {" | ".join(cells)} | {"" if np.isnan(whole) else f"{whole:.2f}"} | {gain} |'
        )
    return [*lines, '']


def _differences(by_method: Scores) -> List[str]:
    """The other methods minus each of ``REFERENCES``: paired by seed, with standard errors.

    The error of a task is that of its seeds, the error of the mean that of the tasks.
    """
    lines = []
    for reference in REFERENCES:
        base = by_method.get(reference, {})
        tasks = [task for task, scores in base.items() if len(scores) == len(SEEDS)]
        title = _title(reference)
        found = []
        for method, scores in by_method.items():
            both = {task: np.subtract(scores[task], base[task]) for task in tasks
                    if len(scores.get(task, ())) == len(SEEDS)}
            if both and method != reference:
                means = [of_task.mean() for of_task in both.values()]
                cells = [_with_error(both[task]) if task in both else '' for task in tasks]
                found.append((fmean(means), f'| {_title(method)} | {" | ".join(cells)} '
                                            f'| {_with_error(means)} |'))
        if found:
            lines += [f'| minus {title} | {" | ".join(tasks)} | mean |',
                      '|---' * (len(tasks) + 2) + '|']
            lines += [line for _, line in sorted(found, key=lambda one: -np.nan_to_num(one[0]))]
            lines.append('')
    return lines


def _with_error(values) -> str:
    """Mean and standard error."""
    if len(values) < 2:
        return f'{np.mean(values):+.2f}'
    return f'{np.mean(values):+.2f} ± {np.std(values, ddof=1) / len(values) ** 0.5:.2f}'


def _longer(rows: List[dict]) -> List[str]:
    """Runs of one seed by length, for each method and task that has all lengths."""
    phases = ('final', *LENGTHS)
    found: Dict[str, Dict[str, Dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row['phase'] in phases and int(row['seed']) == SEEDS[0]:
            found[row['method']][row['task']][row['phase']] = float(row['score'])
    whole = {
        method: {task: scores for task, scores in of_method.items() if len(scores) == len(phases)}
        for method, of_method in found.items()
    }
    tasks = list(dict.fromkeys(task for of_method in whole.values() for task in of_method))
    if not tasks:
        return []
    times = ', '.join(map(str, (1, *LENGTHS.values())))
    lines = [f'| seed {SEEDS[0]}, {times} times as long | {" | ".join(tasks)} |',
             '|---' * (len(tasks) + 1) + '|']
    for method, of_method in whole.items():
        if of_method:
            cells = [', '.join(f'{of_method[task][phase]:.2f}' for phase in phases)
                     if task in of_method else '' for task in tasks]
            lines.append(f'| {_title(method)} | {" | ".join(cells)} |')
    return [*lines, '']


def _rankings(by_method: Scores) -> List[Scores]:
    """The methods that have all seeds of all tasks: with LSPT, and if complete with LSPT+ instead.

    Without controls, and without LSPT's other near copies.
    """
    tasks = {task for found in by_method.values() for task in found}
    complete = {
        method: found for method, found in by_method.items()
        if method in RATES and set(found) == tasks
        and all(len(s) == len(SEEDS) and np.isfinite(s).all() for s in found.values())
    }
    without = [LSPT_VARIANTS]
    if LSPT_PLUS in complete:
        without.append(('lspt', *(m for m in LSPT_VARIANTS if m != LSPT_PLUS)))
    return [{m: found for m, found in complete.items() if m not in names} for names in without]


def _ranks(by_method: Scores) -> List[str]:
    """Mean ranks of two methods or more."""
    if len(by_method) < 2:
        return []
    tasks = list(next(iter(by_method.values())))
    ranks = mean_ranks({task: {m: found[task] for m, found in by_method.items()} for task in tasks})
    lines = [f'| {len(ranks)} methods, mean rank over {", ".join(tasks)} | rank | 95 % interval '
             '| to the first |', '|---|---|---|---|']
    for i, (method, rank) in enumerate(ranks.items()):
        gap = f'{rank.gap:.2f} ± {rank.gap_error:.2f}' if i else ''
        lines.append(
            f'| {_title(method)} | {rank.mean:.2f} | {rank.low:.2f} to {rank.high:.2f} | {gap} |'
        )
    return [*lines, '']
