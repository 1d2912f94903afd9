"""Runs of the small tables (docs/protocol.md): rates on some tasks, then seeds on all.

A run is a folder of ``lspt_mm.search.worker``. Finished ones are not repeated, and neither are
those of ``results.csv`` whose folders are gone.
"""

import csv
import hashlib
import io
from pathlib import Path
from statistics import fmean
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

import pooch
from mmengine.config import Config

from lspt_mm.config.load import apply_common_options, read_config, turn_on_amp
from lspt_mm.errors import InputError
from lspt_mm.recipes.methods import METHODS
from lspt_mm.search.grid import Outcome, best
from lspt_mm.search.plan import final_config, selection_config
from lspt_mm.search.protocol import prepare_run, read_result
from lspt_mm.search.ranking import TOLERANCE
from lspt_mm.search.small_plan import (
    ARGUMENTS,
    HEAD,
    LADDER,
    LENGTHS,
    LONGER_METHODS,
    PROBES,
    RATES,
    SEEDS,
    SELECTION_SEED,
    TASKS,
)
from lspt_mm.search.worker import RESULT, RUN
from lspt_mm.utils.atomic_io import read_json, write_json, write_text

#: File of the digests of weights and lists.
INPUTS = 'inputs.json'
#: File of all runs, and its columns.
RESULTS = 'results.csv'
COLUMNS = ('table', 'task', 'method', 'phase', 'lr', 'seed', 'score', 'baseline', 'trained',
           'seconds')


class Run(NamedTuple):
    """One run.

    Attributes:
        task: Name in ``TASKS``.
        method: Name in ``RATES``, ``HEAD``, or that of the fit.
        phase: 'selection', 'final', or one of ``LENGTHS``.
        lr: None for the fit and the head alone, which have no rate to choose.
        seed: Of the run.
    """

    task: str
    method: str
    phase: str
    lr: Optional[float]
    seed: int

    @property
    def name(self) -> str:
        """Its folder, such as ``eurosat/lspt/selection,lr=0.001,seed=0``."""
        lr = '' if self.lr is None else f',lr={self.lr:g}'
        return f'{self.task}/{self.method}/{self.phase}{lr},seed={self.seed}'


class SmallTables:
    """All runs of the chosen tasks and methods in a folder.

    Args:
        folder: Where they are kept.
        data: Folder of the prepared data.
        weights: File of the ViT.
        tasks: Names in ``TASKS``.
        methods: Names in ``RATES``.
    """

    def __init__(
        self, folder: Path, data: str, weights: str, tasks: Iterable[str], methods: Iterable[str],
    ):
        self.folder = Path(folder)
        self.data, self.weights = data, weights
        self.tasks, self.methods = list(tasks), list(methods)
        self.known: Dict[str, dict] = {}
        if (self.folder / RESULTS).is_file():
            with open(self.folder / RESULTS, encoding='utf-8', newline='') as file:
                for row in csv.DictReader(file):
                    lr = float(row['lr']) if row['lr'] else None
                    run = Run(row['task'], row['method'], row['phase'], lr, int(row['seed']))
                    self.known[run.name] = row

    def check_inputs(self) -> None:
        """Keep the digests of weights and lists beside the results.

        Raises:
            InputError: If finished runs had other ones. Their scores would be taken for those of
                these.
        """
        path = self.folder / INPUTS
        begun = self.known or any(self.folder.glob(f'*/*/*/{RESULT}'))
        kept = read_json(path) if begun and path.is_file() else {}
        found = {'weights': self.weights}
        if Path(self.weights).is_file():
            found['weights'] = pooch.file_hash(self.weights, 'sha256')
        tables = {TASKS[task].table for task in self.tasks}
        chooses = [name for name, facts in TASKS.items()
                   if facts.selects and facts.table in tables]
        for task in {*self.tasks, *chooses}:
            root = (TASKS[task].data_root or '{data}').format(data=self.data)
            lists = sorted(p for p in Path(root, task).glob('*') if p.suffix in ('.json', '.txt'))
            digest = hashlib.sha256(b''.join(p.read_bytes() for p in lists))
            if lists:
                found[task] = digest.hexdigest()
        other = [name for name in sorted(found) if kept.get(name, found[name]) != found[name]]
        if other:
            raise InputError(
                f'{self.folder} holds runs with other {", ".join(other)} than now ({INPUTS}); take '
                'another --work-dir'
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(path, {**kept, **found})

    # ---- which runs ------------------------------------------------------------------------

    def controls(self) -> List[Run]:
        """Logistic regression on frozen features, which hardly has a seed; the head alone."""
        fits = [Run(task, _fit(task), 'final', None, SEEDS[0]) for task in self.tasks]
        return [*fits, *self.final(HEAD)]

    def selection(self, method: str) -> List[Run]:
        """Runs that choose the rates of a method, by now: all selection tasks of each table."""
        tables = dict.fromkeys(TASKS[task].table for task in self.tasks)
        rates = {table: self._rates(table, method)[0] for table in tables}
        return [
            Run(task, method, 'selection', lr, SELECTION_SEED)
            for task, facts in TASKS.items()
            if facts.selects and facts.table in tables
            for lr in rates[facts.table]
        ]

    def final(self, method: str) -> List[Run]:
        """Runs of a method that are tested, on the tables whose selection is complete."""
        rates = {}
        if method != HEAD:
            rates = {task: self.rate(TASKS[task].table, method) for task in self.tasks}
        return [
            Run(task, method, 'final', rates.get(task), seed)
            for task in self.tasks if method == HEAD or rates[task] is not None
            for seed in SEEDS
        ]

    def longer(self, method: str) -> List[Run]:
        """Classification runs of the first seed, for some methods several times as long."""
        return [
            run._replace(phase=phase)
            for run in self.final(method)
            if run.seed == SEEDS[0] and method in LONGER_METHODS and TASKS[run.task].epochs
            for phase in LENGTHS
        ]

    def all_runs(self) -> List[Run]:
        """All runs whose rate is known by now."""
        of_methods = [
            [*self.selection(method), *self.final(method), *self.longer(method)]
            for method in self.methods
        ]
        return [*self.controls(), *(run for runs in of_methods for run in runs)]

    def rate(self, table: str, method: str) -> Optional[float]:
        """The rate with the best mean over the table's selection tasks; None before all ran."""
        return self._rates(table, method)[1]

    def _rates(self, table: str, method: str) -> Tuple[List[float], Optional[float]]:
        """The rates to try, and the best; None before all of them ran."""
        tasks = [name for name, facts in TASKS.items() if facts.selects and facts.table == table]
        middle = LADDER.index(RATES[method])
        low, high = middle - 1, middle + 1
        while True:
            outcomes = []
            for lr in LADDER[low : high + 1]:
                runs = [Run(task, method, 'selection', lr, SELECTION_SEED) for task in tasks]
                scores = [self.score(run) for run in runs]
                if None in scores:
                    return list(LADDER[low : high + 1]), None
                outcomes.append(Outcome({'lr': lr}, fmean(scores)))
            lr = best(outcomes, TOLERANCE).point['lr']
            if lr == LADDER[low] and low > 0:
                low -= 1
            elif lr == LADDER[high] and high < len(LADDER) - 1:
                high += 1
            else:
                return list(LADDER[low : high + 1]), lr

    # ---- their folders ---------------------------------------------------------------------

    def path(self, run: Run) -> Path:
        """Folder of a run."""
        return self.folder / run.name

    def score(self, run: Run) -> Optional[float]:
        """Accuracy or mIoU in per cent; NaN if the run diverged; None before it is done."""
        row = self.row(run)
        return None if row is None else float(row['score'])

    def row(self, run: Run) -> Optional[dict]:
        """The run as a row of ``COLUMNS``; None before it is done."""
        path = self.path(run)
        if run.name in self.known:
            return self.known[run.name]
        row = dict(
            table=TASKS[run.task].table, task=run.task, method=run.method, phase=run.phase,
            lr='' if run.lr is None else f'{run.lr:g}', seed=run.seed,
        )
        if (path / RESULT).is_file():
            result = read_result(path)
            trained, baseline = result['trainable'], result.get('baseline')
            self.known[run.name] = dict(
                row, score=f'{result["accuracy"]:.4f}',
                baseline='' if baseline is None else f'{baseline:.2f}',
                trained=trained['prompts'] + trained['backbone'], seconds=result['seconds'],
            )
        elif any((path / RUN).glob('nonfinite_*.json')):  # it would end there again
            self.known[run.name] = dict(row, score='nan', baseline='', trained='', seconds='')
        return self.known.get(run.name)

    def config(self, run: Run) -> Config:
        """The run's config."""
        facts = TASKS[run.task]
        epochs = facts.epochs and facts.epochs * LENGTHS.get(run.phase, 1)
        # The head alone: as biases, which stay frozen.
        names = dict(data=self.data, weights=self.weights, task=run.task, epochs=epochs,
                     method='bias' if run.method == HEAD else run.method)
        spec = facts.config.format(**names) + _further_arguments(run)
        root = facts.data_root and facts.data_root.format(**names)
        cfg = read_config(spec)
        options: Dict[str, Any] = {}
        for split in ('train', 'val', 'test'):
            options[f'{split}_dataloader.num_workers'] = 0
            options[f'{split}_dataloader.persistent_workers'] = False
        length = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters
        fit = run.method == _fit(run.task)
        if not fit:
            options['train_cfg.val_interval'] = length  # the last one decides
        if run.method == HEAD:
            options['model.backbone.tune'] = 'nothing'
        apply_common_options(cfg, options, root)
        if not fit:
            turn_on_amp(cfg)
        if run.phase == 'selection':
            return selection_config(cfg, run.seed)
        return final_config(cfg, run.seed, 'train')

    def run(self, runs: List[Run], launcher: Callable, on_done: Callable[[Run, int], None]) -> None:
        """Execute the runs that are not done."""
        todo = {}
        for run in runs:
            if self.score(run) is None:
                prepare_run(self.path(run), self.config(run))
                todo[self.path(run)] = run
        if todo:
            launcher(list(todo), lambda folder, code: on_done(todo[folder], code))

    def write(self) -> List[dict]:
        """Write the rows of all finished runs, earlier ones of other tasks included.

        Returns:
            list: The rows, without runs that were tested at another rate than the chosen one.
        """
        for run in self.all_runs():
            self.row(run)
        rows = [self.known[name] for name in sorted(self.known)]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / RESULTS, text.getvalue())
        rates = {(row['table'], row['method']) for row in rows if row['lr']}
        rates = {key: self.rate(*key) for key in rates}
        return [row for row in rows if row['phase'] == 'selection' or not row['lr']
                or float(row['lr']) == rates[row['table'], row['method']]]


def _fit(task: str) -> str:
    """The method that is logistic regression on frozen features."""
    return PROBES[TASKS[task].table]


def _further_arguments(run: Run) -> str:
    if run.lr is None:
        return ''
    if TASKS[run.task].table == 'classification':
        own = ARGUMENTS.get(run.method)
        return f',lr={run.lr:g}' + (f',{own}' if own else '')
    tokens = '' if METHODS[run.method].prompter is None else ',num_tokens=10'
    return f',prompt_lr={run.lr:g}{tokens}'
