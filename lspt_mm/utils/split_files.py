"""Lists of a data set's images and labels, as converters write and data sets read them."""

from pathlib import Path, PurePosixPath
from typing import List, Tuple, Union

from lspt_mm.errors import InputError
from lspt_mm.utils.atomic_io import read_json

#: Folders of prepared segmentation data, below its root.
IMAGES, MASKS = 'images', 'masks'
#: A label, or the labels of an image in data that may have several or none.
Label = Union[int, List[int]]


def is_inside(name: str) -> bool:
    """Whether a relative path stays below the folder it is relative to."""
    path = PurePosixPath(name)
    return not path.is_absolute() and '..' not in path.parts


def read_text_list(path: Path) -> List[Tuple[str, int]]:
    """Pairs of image and label of a ``.txt`` split file; InputError for another form."""
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f'{path}: not a text file in UTF-8 ({error})') from error
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(' ')  # names may have spaces
        if not name or not label.isdecimal():
            raise InputError(
                f"{path}, line {number}: {line.strip()!r}: expected 'relative/path label'"
            )
        pairs.append((name.strip(), int(label)))
    return pairs


def read_json_list(path: Path, multi_label: bool = False) -> List[Tuple[str, Label]]:
    """Pairs of image and label(s) of a ``.json`` split file; InputError for another form."""
    # As pairs, which keep an image that occurs twice.
    pairs = read_json(path, object_pairs_hook=lambda items: [tuple(item) for item in items])
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise InputError(f'{path}: expected {{"relative/path": label, ...}}')
    if not multi_label:
        return [(name, _number(path, name, label)) for name, label in pairs]
    for name, labels in pairs:
        if not isinstance(labels, list) or len(set(map(str, labels))) < len(labels):
            raise InputError(
                f'{path}: image {name} has {labels!r}, expected a list of different labels'
            )
    return [(name, [_number(path, name, one) for one in labels]) for name, labels in pairs]


def _number(path: Path, name: str, label) -> int:
    if isinstance(label, str) and label.isdecimal():
        return int(label)
    if not isinstance(label, int) or isinstance(label, bool):
        hint = '; lists are for multi_label=True' if isinstance(label, list) else ''
        raise InputError(f'{path}: image {name} has label {label!r}, expected an integer{hint}')
    return label
