"""Lists of images with labels: found in folders, drawn, checked and written."""

import hashlib
import json
import os
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, Union

from lspt_mm.errors import InputError
from lspt_mm.utils.atomic_io import read_json
from lspt_mm.utils.cli import map_with_progress
from lspt_mm.utils.images import image_problem, list_images
from lspt_mm.utils.split_files import is_inside
from lspt_mm.utils.text import shorten

#: Images of a split in order: path relative to the data set's folder, and label from 0, or a list
#: of labels where an image may have several or none.
Pairs = List[Tuple[str, Union[int, List[int]]]]
#: The splits, in the order in which lists name them.
PARTS = ('train', 'val', 'test')


def images_in(folder: Path) -> List[str]:
    """Paths of all images of all classes, relative to ``folder``, sorted."""
    found = (path.relative_to(folder) for path in list_images(folder).images)
    return sorted(path.as_posix() for path in found if len(path.parts) > 1)


def labels_in(pairs: Pairs) -> List[int]:
    """The labels of all images, one after the other."""
    return [one for _, label in pairs for one in _as_list(label)]


def _as_list(label: Union[int, List[int]]) -> List[int]:
    return label if isinstance(label, list) else [label]


def alike(names: Sequence[str]) -> List[str]:
    """Those of ``names``, quoted, that look like another one."""
    found: Dict[str, List[str]] = {}
    for name in names:
        found.setdefault(unicodedata.normalize('NFC', name).strip(), []).append(name)
    return [repr(name) for same in found.values() if len(same) > 1 for name in same]


# ---- drawing validation images ---------------------------------------------------------------


def random_tenth(train: Pairs, seed: int) -> Tuple[Pairs, Pairs]:
    """Divide ``train`` into train and a tenth (rounded up) that is val.

    The order of drawing is that of the sha256 of seed and path: the same on every machine and
    with every version, whatever the order of the list. Each class keeps a training image.

    Raises:
        InputError: If there are not enough images.
    """
    count = -(-len(train) // 10)
    left = Counter(label for _, label in train)
    val = set()
    for name, label in sorted(train, key=drawing_order(seed)):
        if len(val) < count and left[label] > 1:
            left[label] -= 1
            val.add(name)
    if len(val) < count:
        raise InputError(
            f'{len(train)} training images of {len(left)} classes: cannot draw {count} for '
            'validation, as each class keeps one'
        )
    return _divided(train, val)


def random_share(train: Pairs, share: float, seed: int) -> Tuple[Pairs, Pairs]:
    """Divide each class of ``train`` into train and a share (rounded, at least 1) that is val.

    The order of drawing is :func:`random_tenth`'s. A class keeps a training image. Of images with
    several labels, rare classes get their share first; those without one are a class of their own.
    """
    classes: Dict[Optional[int], List[str]] = {}
    labels_of = {name: _as_list(label) or [None] for name, label in train}
    for name, _ in sorted(train, key=drawing_order(seed)):
        for label in labels_of[name]:
            classes.setdefault(label, []).append(name)
    left = {label: len(names) for label, names in classes.items()}
    val = set()
    for label, names in sorted(classes.items(), key=lambda item: len(item[1])):
        count = max(int(share * len(names) + 0.5), 1)
        for name in names:
            if len(names) - left[label] >= count:
                break
            if name not in val and all(left[one] > 1 for one in labels_of[name]):
                val.add(name)
                for one in labels_of[name]:
                    left[one] -= 1
    return _divided(train, val)


def drawing_order(seed: int) -> Callable:
    """Key to sort (path, label) pairs by: the sha256 of seed and path."""
    return lambda pair: hashlib.sha256(f'{seed} {pair[0]}'.encode()).digest()


def _divided(train: Pairs, val: set) -> Tuple[Pairs, Pairs]:
    return [p for p in train if p[0] not in val], [p for p in train if p[0] in val]


# ---- checks ----------------------------------------------------------------------------------


def problems_of(
    splits: Dict[str, Pairs],
    root: Path,
    num_classes: int,
    counts: Optional[Dict[str, int]] = None,
) -> List[str]:
    """All problems of some splits, a sentence each.

    Args:
        splits (dict): Name to images.
        root (Path): Folder that their paths are relative to.
        num_classes (int): Labels are 0 to ``num_classes - 1``.
        counts (dict, optional): Name to the number of images it must have; None for any.
    """
    problems = []
    for split, pairs in splits.items():
        problems += _of_one(split, pairs, root, num_classes)
    problems += wrong_counts(splits, counts or {})
    names = list(splits)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            others = {name for name, _ in splits[other]}
            both = [name for name, _ in splits[one] if name in others]
            if both:
                problems.append(f'{shorten(both)} both in {one} and in {other}')
    paths = dict.fromkeys(name for pairs in splits.values() for name, _ in pairs)
    bad = _unreadable(root, [name for name in paths if (root / name).is_file()])
    if bad:
        problems.append(f'{shorten(bad)} cannot be read as an image')
    return problems


def duplicates(items: Iterable[Tuple[str, str, str, Any]], what: str) -> List[str]:
    """A line for each image that is in two splits or has two labels, with both names.

    Args:
        items: Digest of an image's content, its split, its name and its label.
        what: Word for labels in a sentence, such as 'masks'.
    """
    first: Dict[str, tuple] = {}
    lines = []
    for digest, split, name, label in items:
        other_split, other, other_label = first.setdefault(digest, (split, name, label))
        found = [f'in {other_split} and in {split}'] * (split != other_split)
        found += [f'with two {what}'] * (label != other_label)
        if found:
            lines.append(f'{other} and {name} are one image, {", ".join(found)}')
    return lines


def digest_of(path: Path) -> str:
    """The sha256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wrong_counts(splits: Dict[str, Pairs], counts: Dict[str, int]) -> List[str]:
    """A sentence for each split whose number of images differs from ``counts``."""
    return [
        f'{split}: {len(splits[split])} images, expected {count}. If this is a part of the data '
        'on purpose: --not-official'
        for split, count in counts.items()
        if len(splits[split]) != count
    ]


def raise_if_any(title: str, problems: List[str], kept: Sequence[Path] = ()) -> None:
    """Raise InputError with all of ``problems``, if there are any.

    ``kept`` are folders of an earlier run that this one used.
    """
    hint = ''
    if kept:
        folders = ', '.join(map(str, kept))
        hint = f'\n{folders} existed before and was kept; to replace it, remove it first'
    if len(problems) == 1:
        raise InputError(f'{title}: {problems[0]}{hint}')
    if problems:
        lines = ''.join(f'\n  - {problem}' for problem in problems)
        raise InputError(f'{title}: {len(problems)} things are wrong{lines}{hint}')


def _of_one(split: str, pairs: Pairs, root: Path, num_classes: int) -> List[str]:
    if not pairs:
        return [f'{split}: names no image']
    problems = []
    twice = [name for name, count in Counter(name for name, _ in pairs).items() if count > 1]
    if twice:
        problems.append(f'{split}: {shorten(twice)} listed more than once')
    beyond = [f'{name} ({label})' for name, label in pairs
              if not all(0 <= one < num_classes for one in _as_list(label))]
    if beyond:
        problems.append(
            f'{split}: {shorten(beyond)} with a label outside 0 to {num_classes - 1}'
        )
    outside = [name for name, _ in pairs if not is_inside(name)]
    if outside:
        problems.append(f'{split}: {shorten(outside)} outside {root}')
    missing = [name for name, _ in pairs if is_inside(name) and not (root / name).is_file()]
    if missing:
        problems.append(
            f'{split}: {len(missing)} of its {len(pairs)} images do not exist in {root}, such as '
            f'{missing[0]}'
        )
    return problems


def _unreadable(root: Path, names: List[str]) -> List[str]:
    """Those of ``names`` that cannot be decoded."""
    found = map_with_progress(lambda name: image_problem(root / name), names, 'reading images')
    return [name for name, problem in zip(names, found, strict=True) if problem]


# ---- writing ---------------------------------------------------------------------------------


def as_json(pairs: Pairs) -> str:
    """``{path: label}``, a line for each image."""
    lines = (f'{_json(name)}: {_json(label)}' for name, label in dict(pairs).items())
    return '{\n' + ',\n'.join(lines) + '\n}\n'


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def about_json(facts: dict) -> str:
    """The text of ``about.json``."""
    return json.dumps(facts, indent=1, ensure_ascii=False) + '\n'


def write_splits(folder: Path, splits: Dict[str, Pairs], about: dict, suffix: str = '.json') -> str:
    """Write a list for each split, and ``about.json``, as a set.

    Args:
        folder (Path): Folder, made if absent.
        splits (dict): Name to images.
        about (dict): Content of ``about.json``.
        suffix (str): '.json' for ``{path: label}``, '.txt' for lines ``path label``.

    Returns:
        str: Numbers of images, such as ``train 10, val 2``.
    """
    texts = {
        f'{split}{suffix}': as_json(pairs) if suffix == '.json'
        else ''.join(f'{name} {label}\n' for name, label in pairs)
        for split, pairs in splits.items()
    }
    write_lists(folder, {**texts, 'about.json': about_json(about)})
    return ', '.join(f'{split} {len(pairs)}' for split, pairs in splits.items())


def write_lists(folder: Path, texts: Dict[str, str]) -> None:
    """Write the files of one folder as a set.

    Each gets its name only when it is complete, and old ones are removed before the first new one
    appears: an interruption leaves files missing, but never a mixture of two sets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        _part(folder, name).write_text(text, encoding='utf-8')
    for name in texts:
        (folder / name).unlink(missing_ok=True)
    for name in texts:
        os.replace(_part(folder, name), folder / name)


def _part(folder: Path, name: str) -> Path:
    return folder / f'.{name}.part'


def check_same_classes(dest: Path, classes: List[str]) -> None:
    """Raise InputError if ``dest`` was prepared with other classes before."""
    try:
        before = read_json(dest / 'about.json')['classes']
    except (OSError, InputError, KeyError, TypeError):
        return
    if before != classes:
        raise InputError(
            f'{dest} was prepared before, with {len(before)} classes ({shorten(before)}); '
            f'now there are {len(classes)} ({shorten(classes)}). Runs that were trained on it '
            'would read other labels: name another folder (own_masks and prepare take --overwrite)'
        )


def check_same_lists(dest: Path, splits: Dict[str, Pairs]) -> None:
    """Raise InputError if a list in ``dest``, of a run that goes on, has other images or labels."""
    for part in PARTS:
        path, now = dest / f'{part}.json', dict(splits.get(part, ()))
        before = read_json(path) if path.is_file() else now  # an interruption may have removed it
        changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if changed:
            raise InputError(
                f'{path}: images or labels differ from those of the run, such as '
                f'{shorten(changed, 2)}; keep images, labels, shares and seed as they were, or '
                'start a new run in another folder'
            )
