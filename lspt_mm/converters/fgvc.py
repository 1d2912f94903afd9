"""Prepares a data set of FGVC from its official files."""

from pathlib import Path
from typing import Dict, List, Optional, Tuple

from lspt_mm.config.benchmarks import FGVC_TASKS as TASKS
from lspt_mm.converters.archives import (
    SOURCES,
    find_archive,
    find_folder,
    place_folder,
    read_file,
)
from lspt_mm.converters.official_lists import LAYOUTS, Layout, Official, published
from lspt_mm.converters.splits import (
    Pairs,
    problems_of,
    raise_if_any,
    random_tenth,
    write_splits,
    wrong_counts,
)
from lspt_mm.errors import InputError


def prepare_fgvc(
    name: str,
    source: Path,
    dest: Path,
    splits: Optional[Path] = None,
    seed: int = 0,
    copy: bool = False,
    official_counts: bool = True,
) -> str:
    """Write the images, ``train.json``, ``val.json``, ``test.json`` and ``about.json`` to ``dest``.

    Args:
        name (str): One of ``lspt_mm.config.benchmarks.FGVC_TASKS``.
        source (Path): Folder with the official archives or what was extracted from them.
        dest (Path): Folder that is read by ``FGVC``, made if absent.
        splits (Path, optional): Folder of the published train, val and test. Without it val is
            the official one, or a tenth of train drawn with ``seed``.
        copy (bool): Copy extracted folders rather than link to them.
        official_counts (bool): Whether the numbers of classes and images must be the published.

    Returns:
        str: A line about what was written.

    Raises:
        InputError: If anything is missing or wrong; no list is written then.
    """
    facts = TASKS[name]
    layout, files = _find(name, source, dest)
    kept = [
        dest / folder for folder, archive in layout.folders.items()
        if place_folder(source, folder, archive, dest, copy)
    ]
    official = layout.read(dest, files)
    train, val, kind, problems = _divide(official, splits, seed)
    found = {'train': train, 'val': val, 'test': official.test}
    counts = {split: getattr(facts, f'num_{split}') for split in found}
    problems += problems_of(found, dest, facts.num_classes, counts if official_counts else None)
    num_classes = len({label for _, label in train})
    if official_counts and num_classes != facts.num_classes:
        problems.append(f'train: images of {num_classes} classes, expected {facts.num_classes}')
    raise_if_any(name, problems, kept)
    is_official = not wrong_counts(found, counts) and num_classes == facts.num_classes
    about = {
        'name': facts.title, 'classes': official.classes, 'val': kind,
        'official_counts': is_official,
    }
    counts = write_splits(dest, found, about)
    note = '' if is_official else '; NOT the official counts'
    return f'{facts.title}: {counts} images of {num_classes} classes in {dest}; val is {kind}{note}'


def expected_files(name: str) -> str:
    """The official files of a data set, for messages and the table."""
    return ', or '.join(_files_of(layout) for layout in LAYOUTS[name])


def _files_of(layout: Layout) -> str:
    files = [
        file + (f' (or in {archive})' if archive else '') for file, archive in layout.files.items()
    ]
    return ' + '.join([*layout.folders.values(), *files])


def _find(name: str, source: Path, dest: Path) -> Tuple[Layout, Dict[str, bytes]]:
    """The layout that ``source`` has, and the content of its lists."""
    if not source.is_dir():
        raise InputError(f'{source} is not a folder; expected one with the files of {name}')
    lacks: List[List[str]] = []
    for layout in LAYOUTS[name]:
        missing = [
            f'{archive} (or {folder}/)' for folder, archive in layout.folders.items()
            if not (find_folder(source, folder) or find_archive(source, archive)
                    or (dest / folder).is_dir())
        ]
        files = {file: read_file(source, file, tar) for file, tar in layout.files.items()}
        missing += [file for file, content in files.items() if content is None]
        if not missing:
            return layout, files
        lacks.append(missing)
    fewest = min(lacks, key=len)
    raise InputError(
        f'{name}: {source} lacks {", ".join(fewest)}.\n'
        f'  Expected, as archives or extracted: {expected_files(name)}\n'
        f'  Where to get them: {SOURCES[name]}'
    )


def _divide(
    official: Official, splits: Optional[Path], seed: int
) -> Tuple[Pairs, Pairs, str, List[str]]:
    """Train, val, the origin of val, and problems."""
    if official.val is not None:
        if splits is not None:
            raise InputError(f'--splits {splits}: this data set has an official val; leave it out')
        return official.train, official.val, 'official', []
    if splits is not None:
        train, val, problems = published(splits, official)
        return train, val, 'published', problems
    train, val = random_tenth(official.train, seed)
    return train, val, f'ours (seed {seed})', []
