"""Finished runs, read from their work dirs: config, checkpoint, log, test results."""

import os
import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from mmengine.config import Config

from lspt_mm.analysis.logs import Curve, curves_of_lines
from lspt_mm.config.load import apply_common_options, read_config
from lspt_mm.engine.hooks.jsonl_logger_hook import read_log
from lspt_mm.engine.hooks.linear_baseline_hook import baseline_of
from lspt_mm.engine.work_dir import find_config_and_checkpoint
from lspt_mm.errors import InputError
from lspt_mm.tasks import Task, task_of
from lspt_mm.utils.atomic_io import read_json

#: Keys of configs on where a run was made and how it was logged.
_BOOKKEEPING = (
    'work_dir', 'launcher', 'resume', 'load_from', 'log_level', 'env_cfg', 'visualizer',
    'vis_backends', 'data_help', 'pretrained_help', 'log_processor',
)
_STAMP = re.compile(r'\d{8}_\d{6}$')


class FinishedRun(NamedTuple):
    """A finished run, read from its work dir.

    ``name`` is unique in a report; ``curves`` are those of log.jsonl by key, none without one;
    ``tests`` maps the folder of a test, relative to the work dir, to its metrics.
    """

    name: str
    folder: Path
    cfg: Config
    checkpoint: Path
    curves: Dict[str, Curve]
    tests: Dict[str, Dict[str, float]]

    @property
    def task(self) -> Task:
        """The task of its config."""
        return task_of(self.cfg)

    @property
    def baseline(self) -> Optional[dict]:
        """Logistic regression on frozen features: metric, value, of (which data); None without."""
        return baseline_of(self.folder)

    @property
    def iterations(self) -> Optional[int]:
        """The last iteration in the log, None without one."""
        return max((curve[-1][0] for curve in self.curves.values()), default=None)


def find_run(
    folder: Path, name: Optional[str] = None, data_root: Optional[str] = None
) -> FinishedRun:
    """Read a finished run from its work dir.

    Args:
        folder: Work dir of ``tools/train.py``.
        name: For the report; the folder's name otherwise.
        data_root: Folder of the data, instead of the config's.

    Raises:
        InputError: If there is no config or checkpoint in it, or more than one config.
    """
    folder = Path(folder)
    config, checkpoint = find_config_and_checkpoint(folder)
    cfg = read_config(config)
    apply_common_options(cfg, None, data_root)
    return FinishedRun(
        name=name or folder.name,
        folder=folder,
        cfg=cfg,
        checkpoint=Path(checkpoint),
        curves=curves_of_lines(read_log(folder)),
        tests=dict(_tests(folder)),
    )


def split_name(text: str) -> Tuple[Optional[str], str]:
    """Split ``NAME=FOLDER``; the name is None for a folder, whose path may have an equals sign."""
    name, equals, folder = text.partition('=')
    return (name, folder) if equals and not Path(text).is_dir() else (None, text)


def find_runs(given: List[str], data_root: Optional[str] = None) -> List[FinishedRun]:
    """Read the runs of arguments ``FOLDER`` or ``NAME=FOLDER``; make their names unique.

    Raises:
        InputError: If a folder is not a run, a name is given twice, or the tasks differ.
    """
    pairs = [split_name(text) for text in given]
    named = [name for name, _ in pairs if name is not None]
    for name in named:
        if not name:
            raise InputError('a run with an empty name: expected NAME=FOLDER')
        if named.count(name) > 1:
            raise InputError(f'the name {name!r} is given twice: expected NAME=FOLDER')
    runs = [find_run(Path(folder), name, data_root) for name, folder in pairs]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):  # such as a/lspt and b/lspt
        folders = [run.folder.resolve() for run in runs]
        common = os.path.commonpath([folder.parent for folder in folders])
        named = [folder.relative_to(common).as_posix() for folder in folders]
        runs = [r._replace(name=r.name if names.count(r.name) == 1 else n)
                for r, n in zip(runs, named, strict=True)]
    folders = [run.folder.resolve() for run in runs]
    twice = [str(run.folder) for run, one in zip(runs, folders, strict=True)
             if folders.count(one) > 1]
    if twice:
        raise InputError(f'a run is given twice: {twice[0]}')
    if len({run.task for run in runs}) > 1:
        found = ', '.join(f'{run.name}: {run.task.name}' for run in runs)
        raise InputError(f'runs of different tasks cannot be compared ({found})')
    return runs


def _tests(folder: Path) -> Iterator:
    """Results of tools/test.py in the work dir or a folder of it, by that folder, the newest."""
    for path in sorted(folder.glob('**/*.json')):
        if _STAMP.search(path.stem) and path.stem == path.parent.name:
            try:
                metrics = read_json(path)
            except InputError:
                continue
            where = path.parent.parent.relative_to(folder).as_posix()
            if isinstance(metrics, dict):
                yield 'test' if where == '.' else where, metrics


def differences(runs: List[FinishedRun]) -> Dict[str, List[Any]]:
    """Dotted keys of the configs that are not the same in all runs, to the runs' values.

    Keys on where a run was made are left out; None stands for an absent key.
    """
    flat = [dict(_flat(_settings(run.cfg))) for run in runs]
    keys = sorted({key for one in flat for key in one})
    values = {key: [one.get(key) for one in flat] for key in keys}
    return {key: found for key, found in values.items() if any(v != found[0] for v in found)}


def config_key(run: FinishedRun, ignore: Tuple[str, ...] = ()) -> str:
    """A text that is equal for runs whose configs are equal, but for the dotted keys ``ignore``.

    As in :func:`differences`, a key with None counts as absent.
    """
    values = dict(_flat(_settings(run.cfg)))
    kept = {k: repr(v) for k, v in values.items() if v is not None and k not in ignore}
    return repr(sorted(kept.items()))


def _settings(cfg: Config) -> dict:
    return {k: v for k, v in cfg.to_dict().items() if k not in _BOOKKEEPING}


def _flat(node: Any, prefix: str = '') -> Iterator:
    """Dotted keys to values; lists of plain values are one value."""
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _flat(value, f'{prefix}.{key}' if prefix else str(key))
    elif isinstance(node, (list, tuple)) and any(isinstance(v, (dict, list, tuple)) for v in node):
        for index, value in enumerate(node):
            yield from _flat(value, f'{prefix}.{index}')
    else:
        yield prefix, list(node) if isinstance(node, tuple) else node
