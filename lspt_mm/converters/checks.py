"""Checks of the splits of a data set, whose problems are reported together."""

from collections import Counter
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from lspt_mm.converters.io import Pairs
from lspt_mm.datasets.image_list import is_inside
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import map_with_progress
from lspt_mm.utils.images import check_image
from lspt_mm.utils.text import shorten


def problems_of(
    splits: Dict[str, Pairs],
    root: Path,
    num_classes: int,
    counts: Optional[Dict[str, int]] = None,
    verify: bool = True,
) -> List[str]:
    """Everything that is wrong with some splits, a sentence each.

    Args:
        splits (dict): Name to images.
        root (Path): Folder that their paths are relative to.
        num_classes (int): Labels are 0 to ``num_classes - 1``.
        counts (dict, optional): Name to the number of images it must have; None for any.
        verify (bool): Whether each image is decoded.
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
    if verify:
        paths = dict.fromkeys(name for pairs in splits.values() for name, _ in pairs)
        bad = _unreadable(root, [name for name in paths if (root / name).is_file()])
        if bad:
            problems.append(f'{shorten(bad)} cannot be read as an image')
    return problems


def wrong_counts(splits: Dict[str, Pairs], counts: Dict[str, int]) -> List[str]:
    """A sentence for each split with another number of images than ``counts`` has."""
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
    beyond = [f'{name} ({label})' for name, label in pairs if not 0 <= label < num_classes]
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

    def readable(name: str) -> bool:
        try:
            check_image(root / name)
        except InputError:
            return False
        return True

    results = map_with_progress(readable, names, 'reading images')
    return [name for name, good in zip(names, results, strict=True) if not good]
