"""Tasks of VTAB-1K from the community's layout."""

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Dict, List, NamedTuple, Optional, Sequence

from lspt_mm.config.benchmarks import VTAB_SPLITS as SPLITS
from lspt_mm.config.benchmarks import VTAB_TASKS as TASKS
from lspt_mm.converters.archives import SOURCES, link_or_copy
from lspt_mm.converters.splits import (
    Pairs,
    problems_of,
    raise_if_any,
    write_splits,
    wrong_counts,
)
from lspt_mm.errors import InputError
from lspt_mm.utils.split_files import is_inside, read_text_list
from lspt_mm.utils.text import shorten

#: The splits that share no image.
APART = ('train800', 'val200', 'test')
BOTH = 'train800val200'


class _Read(NamedTuple):
    """A task as it was found: its folder, its four lists, problems."""

    folder: Path
    lists: Dict[str, Pairs]
    problems: List[str]


def prepare_vtab(
    source: Path,
    dest: Path,
    tasks: Sequence[str] = (),
    copy: bool = False,
    official_counts: bool = True,
) -> str:
    """Write the tasks below ``dest`` as ``VTAB1K`` reads them: images, lists, ``about.json``.

    A task is a folder in ``source`` (or ``source`` itself, if it is the only task asked for) with
    ``train800.txt``, ``val200.txt`` and ``test.txt`` of lines ``path label``. Without
    ``train800val200.txt`` it is made.

    Args:
        source (Path): The folder.
        dest (Path): Folder of the tasks' folders, made if absent.
        tasks (sequence of str): Names of ``lspt_mm.config.benchmarks.VTAB_TASKS``; none for all.
        copy (bool): Copy the images' folders rather than link to them.
        official_counts (bool): Whether the numbers of images must be VTAB's.

    Returns:
        str: What was written, a line for each task.

    Raises:
        InputError: If anything is missing or wrong; no list is written then.
    """
    if not source.is_dir():
        raise InputError(
            f'{source} is not a folder; expected one with the tasks of VTAB-1K, such as the '
            'extracted archive'
        )
    tasks = list(dict.fromkeys(tasks or TASKS))
    if (source / 'vtab-1k').is_dir() and not any((source / task).is_dir() for task in tasks):
        source = source / 'vtab-1k'
    problems: List[str] = []
    missing: List[str] = []
    kept: List[Path] = []
    found: Dict[str, _Read] = {}
    for task in tasks:
        folder = _folder_of(task, source, alone=len(tasks) == 1)
        if folder is None:
            missing.append(task)
            continue
        found[task] = _read(folder)
        wrong = found[task].problems
        if not wrong:
            kept += _place(found[task], dest / task, copy)
            wrong = _problems(task, found[task], dest / task, official_counts)
        problems += [f'{task}: {problem}' for problem in wrong]
    if missing:
        problems.insert(0, _missing_message(missing, tasks, source))
    raise_if_any('vtab-1k', problems, kept)
    return '\n'.join(_write(task, found[task], dest / task) for task in tasks)


def _missing_message(missing: List[str], tasks: List[str], source: Path) -> str:
    return (
        f'{source} lacks {len(missing)} of {len(tasks)} tasks: {", ".join(missing)}. Expected: a '
        f'folder for each, with train800.txt, val200.txt, test.txt and their images. To have only '
        f'some: --task NAME. Where to get them: {SOURCES["vtab-1k"]}'
    )


def _folder_of(task: str, source: Path, alone: bool) -> Optional[Path]:
    for folder in (source / task, source) if alone else (source / task,):
        if (folder / 'train800.txt').exists():
            return folder
    # For a folder without train800.txt, the caller reports the missing files.
    return source / task if (source / task).is_dir() else None


def _read(folder: Path) -> _Read:
    lists = {split: folder / f'{split}.txt' for split in SPLITS}
    there = {split: path for split, path in lists.items() if path.is_file()}
    try:
        lacks = [f'{split}.txt' for split in APART if split not in there]
        if lacks:
            return _Read(folder, {}, [f'{folder} lacks {", ".join(lacks)}'])
        pairs = {split: read_text_list(path) for split, path in there.items()}
    except InputError as error:
        return _Read(folder, {}, [str(error)])
    return _Read(folder, _with_both(pairs), [])


def _with_both(lists: Dict[str, Pairs]) -> Dict[str, Pairs]:
    """The four lists in their order, train800val200 made if it was not there."""
    both = lists.get(BOTH, lists['train800'] + lists['val200'])
    return {split: both if split == BOTH else lists[split] for split in SPLITS}


def _place(found: _Read, dest: Path, copy: bool) -> List[Path]:
    """Place the folders of a task's images in ``dest``; returns those that were kept."""
    names = {name for pairs in found.lists.values() for name, _ in pairs if is_inside(name)}
    tops = sorted({PurePosixPath(name).parts[0] for name in names})
    folders = [top for top in tops if (found.folder / top).is_dir()]
    return [dest / f for f in folders if link_or_copy(found.folder / f, dest / f, copy)]


def _problems(task: str, found: _Read, dest: Path, official_counts: bool) -> List[str]:
    num_classes = TASKS[task].num_classes
    apart = {split: found.lists[split] for split in APART}
    counts = _counts(task) if official_counts else None
    problems = problems_of(apart, dest, num_classes, counts)
    union, both = apart['train800'] + apart['val200'], found.lists[BOTH]
    if {name for name, _ in both} & {name for name, _ in union}:
        odd = (Counter(union) - Counter(both)) + (Counter(both) - Counter(union))
        odd = [f'{name} {label}' for name, label in odd]
    else:  # the usual archive has copies of its own for each list
        of_test = {name for name, _ in apart['test']}
        shared = [name for name, _ in both if name in of_test]
        problems += [f'{shorten(shared)} both in {BOTH} and in test'] if shared else []
        problems += problems_of({BOTH: both}, dest, num_classes)
        labels = [Counter(label for _, label in pairs) for pairs in (union, both)]
        odd = [f'label {label}' for label in {**labels[0], **labels[1]}
               if labels[0][label] != labels[1][label]]
    if odd:
        problems.append(f'{BOTH}.txt is not train800.txt and val200.txt together: {shorten(odd)}')
    return problems


def _counts(task: str) -> Dict[str, int]:
    return {split: SPLITS[split] or TASKS[task].num_test for split in APART}


def _write(task: str, found: _Read, dest: Path) -> str:
    official = not wrong_counts(found.lists, _counts(task))
    about = {
        'name': TASKS[task].title,
        'classes': [str(label) for label in range(TASKS[task].num_classes)],
        'val': 'official',
        'official_counts': official,
    }
    counts = write_splits(dest, found.lists, about, suffix='.txt')
    return f'{task}: {counts} images in {dest}' + ('' if official else '; NOT the official counts')
