"""Select on validation data, then train the chosen point with several seeds and test each once."""

import json
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
from mmengine.config import Config

from lspt_mm.config.load import read_config_file
from lspt_mm.errors import InputError
from lspt_mm.search.formats import Table, as_csv
from lspt_mm.search.grid import Outcome, Point, best, name_of
from lspt_mm.search.launcher import LOG
from lspt_mm.search.plan import final_config, selection_config, usual_final_on
from lspt_mm.search.worker import CONFIG, RESULT, TEST_BEGUN
from lspt_mm.utils.atomic_io import read_json, write_json, write_text

#: Files of a search's folder.
RESULTS, STATE = 'results.csv', 'search.json'
#: Called with finished runs, all runs, and a line about the last one.
OnProgress = Callable[[int, int, str], None]


@dataclass
class Search:
    """A hyper-parameter search in a folder; finished runs are not repeated.

    Args:
        folder: Where all of it is kept; see docs/benchmarks.md.
        config_of: From a point of the grid to the config of its run.
        points: The grid.
        launcher: Executes runs (:mod:`lspt_mm.search.launcher`).
        seeds: Of the final runs.
        selection_seed: Of the selection runs.
        final_on: What the final runs are trained on, ``'train+val'`` or ``'train'``; None: as the
            folder's ``search.json`` says, or ``usual_final_on``.
        on_progress: Called after every run.
    """

    folder: Path
    config_of: Callable[[Point], Config]
    points: List[Point]
    launcher: Callable
    seeds: List[int] = field(default_factory=lambda: [42])
    selection_seed: int = 42
    final_on: Optional[str] = None
    on_progress: OnProgress = lambda done, total, line: None

    def __post_init__(self):
        self.folder = Path(self.folder)
        if self.final_on is None:
            state = self._state()
            self.final_on = (
                state['final_on'] if state else usual_final_on(self.config_of(self.points[0]))
            )

    # -- Folders of runs ---------------------------------------------------------------------

    def selection_folder(self, point: Point) -> Path:
        """Folder of a selection run."""
        return self.folder / 'selection' / name_of(point)

    def final_folder(self, seed: int) -> Path:
        """Folder of a final run."""
        return self.folder / 'final' / f'seed={seed}'

    # -- The two phases ----------------------------------------------------------------------

    def select(self) -> Outcome:
        """Run the grid and choose by validation accuracy.

        Raises:
            InputError: If runs failed, or if the test set was used for another grid.
        """
        state = self._state()
        if state is not None and self._tested() and state['grid'] != self._names():
            raise InputError(
                f'{self.folder}: the test set has been used, for {name_of(state["chosen"])}, '
                f'chosen from {len(state["grid"])} points. For another grid take another --work-dir'
            )
        folders = {}
        for point in self.points:
            folder = self.selection_folder(point)
            folders[folder] = point
            prepare_run(folder, selection_config(self.config_of(point), self.selection_seed))
        self._run_all(list(folders))
        chosen = best([Outcome(p, read_result(f)['accuracy']) for f, p in folders.items()])
        if not self._tested():
            self._write_state(chosen)
        return chosen

    def finish(self, chosen: Outcome) -> List[float]:
        """Train the chosen point with every seed and test each once.

        Returns:
            The accuracies of all final runs of the folder, by seed.

        Raises:
            InputError: If runs failed, or if the test set was used for another choice.
        """
        if self._tested():
            self._check_choice(chosen)
        folders = [self.final_folder(seed) for seed in self.seeds]
        for seed, folder in zip(self.seeds, folders, strict=True):
            cfg = final_config(self.config_of(chosen.point), seed, self.final_on)
            path = folder / CONFIG
            if not self._tested() and path.is_file() and not _holds(path, cfg):
                shutil.rmtree(folder)  # started for another choice, and never used the test set
            prepare_run(folder, cfg)
        self._write_state(chosen)
        self._run_all(folders)
        return [read_result(folder)['accuracy'] for folder in self._finals()]

    def _check_choice(self, chosen: Outcome) -> None:
        """Raise InputError unless the test set was used for this very choice."""
        state = self._state()
        if state is None:
            raise InputError(
                f'{self.folder}: has final runs, but no {STATE} with their choice. Take another '
                '--work-dir'
            )
        now = (json.loads(json.dumps(chosen.point)), self.final_on, self._names())
        if (state['chosen'], state['final_on'], state['grid']) != now:
            raise InputError(
                f'{self.folder}: the test set has been used, for {name_of(state["chosen"])} '
                f'trained on {state["final_on"]}; now it would be {name_of(chosen.point)} '
                f'trained on {self.final_on} (--final-on). Take another --work-dir'
            )

    # -- What is in the folder ---------------------------------------------------------------

    def _names(self) -> List[str]:
        return sorted(name_of(point) for point in self.points)

    def _finals(self) -> List[Path]:
        """Folders of the final runs that are done, by seed."""
        folders = [
            path for path in self.folder.glob('final/seed=*')
            if path.name[5:].isdecimal() and (path / RESULT).is_file()
        ]
        return sorted(folders, key=lambda path: int(path.name[5:]))

    def _tested(self) -> bool:
        """Whether a final run has started its test."""
        return any(self.folder.glob(f'final/seed=*/{TEST_BEGUN}')) or bool(self._finals())

    def _state(self) -> Optional[dict]:
        path = self.folder / STATE
        if not path.is_file():
            return None
        state = read_json(path)
        if not isinstance(state, dict) or not {'chosen', 'final_on', 'grid'} <= set(state):
            raise InputError(f'{path}: not as a search writes it; take another --work-dir')
        return state

    def _write_state(self, chosen: Outcome) -> None:
        accuracy = None if math.isnan(chosen.accuracy) else chosen.accuracy
        write_json(self.folder / STATE, {
            'chosen': chosen.point, 'validation_accuracy': accuracy, 'final_on': self.final_on,
            'selection_seed': self.selection_seed, 'grid': self._names(),
        })

    def _run_all(self, folders: List[Path]) -> None:
        todo = [folder for folder in folders if not (folder / RESULT).is_file()]
        failed: Dict[Path, int] = {}
        done = len(folders) - len(todo)
        self.write_results()
        self.on_progress(done, len(folders), '')

        def on_done(folder: Path, code: int) -> None:
            nonlocal done
            done += 1
            if (folder / RESULT).is_file():
                line = f'{folder.name}: {read_result(folder)["accuracy"]:.2f}'
            else:
                failed[folder] = code
                line = f'{folder.name}: failed'
            self.write_results()
            self.on_progress(done, len(folders), f'{folder.parent.name} {line}')

        if todo:
            self.launcher(todo, on_done)
        if failed:
            lines = [f'{folder}: {_last_words(folder, code)}' for folder, code in failed.items()]
            raise InputError(
                f'{len(failed)} of {len(folders)} runs failed; finished runs are kept, the same '
                'command tries the others again:\n  ' + '\n  '.join(lines)
            )

    # -- Results -----------------------------------------------------------------------------

    def write_results(self) -> None:
        """Write all finished runs into ``results.csv``: selection by the grid, final by seed."""
        rows: List[Dict[str, Any]] = []
        for point in self.points:
            folder = self.selection_folder(point)
            self._append(rows, folder, 'selection', point, self.selection_seed)
        state = self._state()
        if state is not None:
            for folder in self._finals():
                self._append(rows, folder, 'final', state['chosen'], int(folder.name[5:]))
        grid = list(self.points[0]) if self.points else []
        baseline = ['baseline'] * any('baseline' in row for row in rows)
        columns = ['phase', *grid, 'seed', 'split', 'accuracy', *baseline, 'prompts', 'backbone',
                   'head']
        table = Table(columns, [[row.get(name, '') for name in columns] for row in rows])
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self.folder / RESULTS, as_csv(table))

    @staticmethod
    def _append(rows: list, folder: Path, phase: str, point: Point, seed: int) -> None:
        if (folder / RESULT).is_file():
            result = read_result(folder)
            trained = {k: result['trainable'][k] for k in ('prompts', 'backbone', 'head')}
            rows.append({
                'phase': phase, **point, 'seed': seed,
                'split': 'val' if phase == 'selection' else 'test',
                'accuracy': f'{result["accuracy"]:.4f}', **trained,
            })
            if result.get('baseline') is not None:  # final runs have none
                rows[-1]['baseline'] = f'{result["baseline"]:.4f}'


def prepare_run(folder: Path, cfg: Config) -> None:
    """Write the run's config, or raise InputError if the folder holds another one."""
    path = folder / CONFIG
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, cfg.pretty_text)
    elif not _holds(path, cfg):
        raise InputError(
            f'{folder} holds a run with other settings than now ({CONFIG} differs). Take '
            'another --work-dir, or remove that folder if the run is no longer needed'
        )


def _holds(path: Path, cfg: Config) -> bool:
    """Whether the file has an equal config."""
    if path.read_text(encoding='utf-8') == cfg.pretty_text:
        return True
    try:
        return read_config_file(path).to_dict() == cfg.to_dict()
    except Exception:  # the file's own code may raise any type
        return False


def mean_and_deviation(accuracies: Sequence[float]) -> str:
    """Such as ``71.23 ± 0.45`` (sample standard deviation); the mean alone for one value."""
    mean = f'{np.mean(accuracies):.2f}'
    return mean if len(accuracies) < 2 else f'{mean} ± {np.std(accuracies, ddof=1):.2f}'


def read_result(folder: Path) -> dict:
    """Read the result of a run; InputError if the file is not one that a run writes."""
    path = folder / RESULT
    result = read_json(path)
    whole = isinstance(result, dict) and type(result.get('accuracy')) in (int, float)
    counts = result.get('trainable') if whole else None
    if not isinstance(counts, dict) or not {'prompts', 'backbone', 'head'} <= set(counts):
        raise InputError(f'{path}: not a result of a run; remove the file to repeat the run')
    return result


def _last_words(folder: Path, code: int) -> str:
    """Why a run failed: its error message, or the end of its log."""
    log = folder / LOG
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines() if log.is_file() else []
    lines = [line for line in lines if line.strip()]
    for number, line in enumerate(lines):
        if line.startswith('error: '):
            return ' '.join(lines[number:])
    return f'exit code {code}: {lines[-1] if lines else "no output"} (all of it: {log})'
