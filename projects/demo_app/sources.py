"""Where served models come from: a config and a checkpoint, or the work dir of a run."""

from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

from lspt_mm.analysis.runs import split_name
from lspt_mm.engine.work_dir import find_config_and_checkpoint
from lspt_mm.errors import InputError


class Source(NamedTuple):
    """A model to serve: its name in the interface, config and checkpoint."""

    name: str
    config: str
    checkpoint: str


def source_of_work_dir(name: str, folder) -> Source:
    """Config and last complete checkpoint of the run in ``folder``.

    Raises:
        InputError: If there is no config or checkpoint in it, or more than one config.
    """
    try:
        return Source(name, *find_config_and_checkpoint(folder))
    except InputError as error:
        raise InputError(f'--run {name}: {error}') from error


def named_sources(pairs: Sequence[str], runs: Sequence[str]) -> List[Source]:
    """Sources from a command line.

    Args:
        pairs: CONFIG CHECKPOINT CONFIG CHECKPOINT ...; a model is named after its config, with the
            checkpoint after it if several have the same.
        runs: ``NAME=WORK_DIR``, or ``WORK_DIR``, which is named after the folder.

    Raises:
        InputError: If there are none, one has no pair, or two have the same name.
    """
    if len(pairs) % 2:
        raise InputError(f'{pairs[-1]}: expected CONFIG CHECKPOINT in pairs, this one is alone')
    couples = list(zip(pairs[::2], pairs[1::2], strict=True))
    stems = [_title(config) for config, _ in couples]
    sources = []
    for (config, checkpoint), stem in zip(couples, stems, strict=True):
        several = stems.count(stem) > 1
        name = f'{stem} ({Path(checkpoint).stem})' if several else stem
        sources.append(Source(name, config, checkpoint))
    for run in runs:
        name, folder = split_name(run)
        sources.append(source_of_work_dir(name or Path(folder).name, folder))
    if not sources:
        raise InputError('no model: give CONFIG CHECKPOINT, or --run NAME=WORK_DIR')
    repeated = _repeated([source.name for source in sources])
    if repeated:
        raise InputError(f'two models are called {repeated!r}: give names by --run NAME=WORK_DIR')
    return sources


def _title(config: str) -> str:
    """A config's name without folder and suffix; an experiment's as it is given."""
    path = Path(config.partition(':')[0])
    return path.stem if path.suffix == '.py' else config


def _repeated(names: List[str]) -> Optional[str]:
    return next((name for name in names if names.count(name) > 1), None)
