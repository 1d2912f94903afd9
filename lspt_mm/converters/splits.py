"""Which of the training images are the validation images: ours, or the published ones."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Callable, Dict, List, Tuple

from lspt_mm.converters.archives import SPLITS_SOURCE
from lspt_mm.converters.io import Pairs
from lspt_mm.converters.official_lists import Official
from lspt_mm.datasets.image_list import read_json_list
from lspt_mm.errors import InputError
from lspt_mm.utils.text import shorten


def random_tenth(train: Pairs, seed: int) -> Tuple[Pairs, Pairs]:
    """Divide ``train`` into train and a tenth (rounded up) that is val.

    The order of drawing is that of the sha256 of seed and path: the same on every machine and
    with every version, whatever the order of the list. Each class keeps a training image.

    Raises:
        InputError: If so many cannot be drawn.
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
            f'{len(train)} training images of {len(left)} classes: {count} for validation cannot '
            'be had, as each class keeps one'
        )
    return _divided(train, val)


def random_share(train: Pairs, share: float, seed: int) -> Tuple[Pairs, Pairs]:
    """Divide each class of ``train`` into train and a share (rounded, at least 1) that is val.

    The order of drawing is :func:`random_tenth`'s. A class of one image keeps it.
    """
    classes: Dict[int, List[str]] = {}
    for name, label in sorted(train, key=drawing_order(seed)):
        classes.setdefault(label, []).append(name)
    val = set()
    for names in classes.values():
        count = min(max(int(share * len(names) + 0.5), 1), len(names) - 1)
        val.update(names[:count])
    return _divided(train, val)


def drawing_order(seed: int) -> Callable:
    """Key to sort (path, label) pairs by: the sha256 of seed and path."""
    return lambda pair: hashlib.sha256(f'{seed} {pair[0]}'.encode()).digest()


def _divided(train: Pairs, val: set) -> Tuple[Pairs, Pairs]:
    return [p for p in train if p[0] not in val], [p for p in train if p[0] in val]


def published(folder: Path, official: Official) -> Tuple[Pairs, Pairs, List[str]]:
    """Train and val of a folder with ``train.json``, ``val.json`` and ``test.json``.

    Each is ``{image: class id}``, the image relative to the data set's folder or to that of its
    images. The labels are the official ones; the ids, whatever they count from, must divide the
    images into the same classes.

    Returns:
        Train, val, and what is wrong with the files, a sentence each.

    Raises:
        InputError: If a file is missing or malformed.
    """
    splits = ('train', 'val', 'test')
    missing = [f'{split}.json' for split in splits if not (folder / f'{split}.json').is_file()]
    if missing:
        raise InputError(
            f'{folder} lacks {", ".join(missing)}; expected {{image: class id}} in train.json, '
            f'val.json and test.json ({SPLITS_SOURCE}). Without --splits, val is drawn here'
        )
    labels = dict(official.train + official.test)
    found: Dict[str, Pairs] = {}
    problems = []
    ids: List[Tuple[int, int, str]] = []
    for split in splits:
        found[split], foreign = [], []
        for given, class_id in read_json_list(folder / f'{split}.json'):
            name = _official_name(given, official, labels)
            if name is None:
                foreign.append(given)
            else:
                found[split].append((name, labels[name]))
                ids.append((class_id, labels[name], name))
        if foreign:
            problems.append(
                f'{folder / split}.json: {shorten(foreign)} not among the official images'
            )
    problems += _other_test(folder, found['test'], official.test)
    problems += _other_classes(folder, ids)
    return found['train'], found['val'], problems


def _official_name(given: str, official: Official, labels: Dict[str, int]):
    for prefix in ('', *official.prefixes):
        if prefix + given in labels:
            return prefix + given
    return None


def _other_test(folder: Path, test: Pairs, official: Pairs) -> List[str]:
    theirs, ours = {name for name, _ in test}, {name for name, _ in official}
    problems = []
    if theirs - ours:
        problems.append(
            f'{folder}/test.json: {shorten(sorted(theirs - ours))} not in the official test'
        )
    if ours - theirs:
        problems.append(
            f'{folder}/test.json: lacks {shorten(sorted(ours - theirs))} of the official test'
        )
    return problems


def _other_classes(folder: Path, ids: List[Tuple[int, int, str]]) -> List[str]:
    """Where an id stands for two official labels, or two ids for one."""
    by_id: Dict[int, Tuple[int, str]] = {}
    by_label: Dict[int, Tuple[int, str]] = {}
    for class_id, label, name in ids:
        first, image = by_id.setdefault(class_id, (label, name))
        if first != label:
            return [
                f'{folder}: class id {class_id} is given to {image} and {name}, which officially '
                f'have labels {first} and {label}'
            ]
        first, image = by_label.setdefault(label, (class_id, name))
        if first != class_id:
            return [
                f'{folder}: class ids {first} and {class_id} are given to {image} and {name}, '
                f'which officially both have label {label}'
            ]
    return []
