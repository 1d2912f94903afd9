"""Labels of images in a table (CSV): one or several for an image, or none."""

import csv
import io
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from lspt_mm.converters.mask_pairs import SPLIT_FOLDERS
from lspt_mm.converters.splits import PARTS, Pairs, alike
from lspt_mm.errors import InputError
from lspt_mm.utils.images import list_images
from lspt_mm.utils.text import format_list, shorten

#: Title of the column that names the split of an image.
SPLIT = 'split'
#: Separators of several labels in a cell. A space or a comma is part of a name.
_BETWEEN = str.maketrans(';', '|')
_FORM = (
    'expected a first line of titles such as image,label or image,cat,dog, and a line for each '
    'image'
)


class LabelFile(NamedTuple):
    """Content of a table of labels.

    Attributes:
        classes: Names, sorted, or in the order of their columns.
        splits: Train, and val and test if the table has them; paths are relative to the images'
            folder. Labels are numbers, or lists of them if ``multi_label``.
        multi_label: Whether an image has no label or several.
        notes: Remarks, a line each.
    """

    classes: List[str]
    splits: Dict[str, Pairs]
    multi_label: bool
    notes: List[str]


class _Row(NamedTuple):
    """A line: its number, the image, its labels, and the split if the table has one."""

    line: int
    image: str
    labels: Tuple[str, ...]
    split: Optional[str]


def read_label_file(path: Path, images: Path) -> LabelFile:
    """Labels of the images in a folder, from a table with a first line of titles.

    The first column is the image: its path, below ``images`` or absolute, or its file's name if it
    is the only one of that name; with or without suffix. Then there is either one column with the
    label, or several labels between ``|`` or ``;``; or a column for each class with 0 and 1. A
    column ``split`` may hold train, val or test; without it, folders of these names set the split,
    if every image lies in one. Spaces around cells are dropped.

    Args:
        path: The table, in UTF-8.
        images: Folder of the images, and of folders with images.

    Raises:
        InputError: Naming all lines that cannot be used; a table of another form; if there is only
            one class, or a class of val or test has no image in train.
    """
    titles, lines = _table(path)
    names = _Names(images)
    if '.' in titles[0] and names.find(titles[0]):
        raise InputError(f'{path}, line 1: {titles[0]!r} is an image; {_FORM}')
    split = next((i for i, title in enumerate(titles) if i and title.lower() == SPLIT), None)
    columns = [i for i in range(1, len(titles)) if i != split]
    if not columns:
        raise InputError(f'{path}, line 1: no column of labels in {", ".join(titles)!r}; {_FORM}')
    rows, problems = [], []
    for number, cells in lines:
        try:
            rows.append(_row(number, cells, titles, columns, split, names))
        except ValueError as error:
            problems.append(f'line {number}: {error}')
    problems += _twice(rows)
    if len(columns) == 1:
        problems += _with_commas(rows)
    if problems:
        raise InputError(
            f'{path}: {len(problems)} lines cannot be used\n{format_list(problems)}'
        )
    found = {label for row in rows for label in row.labels}
    classes = [titles[i] for i in columns] if len(columns) > 1 else sorted(found)
    _check_classes(path, classes)
    _take_folders_as_splits(rows)
    _check_train(path, rows)
    number_of = {name: number for number, name in enumerate(classes)}
    multi_label = any(len(row.labels) != 1 for row in rows)
    splits: Dict[str, Pairs] = {}
    for part in PARTS:
        pairs = [(row.image, sorted(number_of[label] for label in row.labels))
                 for row in rows if (row.split or 'train') == part]
        if pairs:
            splits[part] = [(name, labels if multi_label else labels[0]) for name, labels in pairs]
    notes = names.left_out(path, rows)
    commas = [name for name in classes if ',' in name]
    if commas and len(columns) == 1:
        notes.append(f'commas are part of a name: {shorten(commas)}; | separates several labels')
    return LabelFile(classes, splits, multi_label, notes)


def _table(path: Path) -> Tuple[List[str], List[Tuple[int, List[str]]]]:
    """Titles, and numbered lines that are not empty; all cells without spaces around them."""
    try:
        text = path.read_text(encoding='utf-8-sig')
    except FileNotFoundError as error:
        raise InputError(f'--labels {path}: no such file') from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'--labels {path}: not a text file in UTF-8 ({error})') from error
    reader = csv.reader(io.StringIO(text, newline=''), strict=True)
    lines = []
    try:
        for cells in reader:
            lines.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        where = f'{path}, line {reader.line_num}'
        raise InputError(f'{where}: not a line of a CSV ({error})') from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if len(lines) < 2:
        raise InputError(f'{path}: names no image; {_FORM}')
    (_, titles), *lines = lines
    if len(titles) == 1 and any(mark in titles[0] for mark in ';\t'):
        raise InputError(f'{path}, line 1: {titles[0]!r}: expected commas between the columns')
    if '' in titles:
        hint = "; pandas' own numbers are left out by to_csv(index=False)" if not titles[0] else ''
        raise InputError(
            f'{path}, line 1: column {titles.index("") + 1} of {len(titles)} has no title{hint}'
        )
    twice = sorted({title for title in titles if titles.count(title) > 1})
    if twice:
        raise InputError(f'{path}, line 1: two columns are called {shorten(twice)}')
    return titles, lines


def _row(
    number: int, cells: List[str], titles: List[str], columns: Sequence[int], split: Optional[int],
    names: '_Names',
) -> _Row:
    """Parse one line; ValueError for a line that is wrong."""
    if len(cells) != len(titles):
        raise ValueError(
            f'{len(cells)} cells, expected {len(titles)} as in line 1 (put a cell with a comma '
            'in "quotes")'
        )
    image = names.find(cells[0])
    if len(image) != 1:
        what = f'is the name of {shorten(image)}' if image else 'is no image'
        raise ValueError(f'{cells[0]!r} {what}; expected a path below {names.folder}')
    part = None
    if split is not None:
        part = SPLIT_FOLDERS.get(cells[split].lower())
        if part is None:
            raise ValueError(f'split {cells[split]!r}, expected train, val or test')
    if len(columns) == 1:
        labels = (one.strip() for one in cells[columns[0]].translate(_BETWEEN).split('|'))
        return _Row(number, image[0], tuple(dict.fromkeys(filter(None, labels))), part)
    for i in columns:
        if cells[i] not in ('0', '1'):
            raise ValueError(
                f'{cells[i]!r} in column {titles[i]!r}, expected 0 or 1 in a column for each class '
                '(names of classes belong in one column, besides split)'
            )
    return _Row(number, image[0], tuple(titles[i] for i in columns if cells[i] == '1'), part)


def _twice(rows: List[_Row]) -> List[str]:
    first: Dict[str, int] = {}
    return [f'line {row.line}: {row.image!r} is in line {first[row.image]} already; put all '
            'labels of an image in one line'
            for row in rows if first.setdefault(row.image, row.line) != row.line]


def _with_commas(rows: List[_Row]) -> List[str]:
    """A line for each label that is other labels with commas between them."""
    known = {label for row in rows for label in row.labels}
    return [f'line {row.line}: {label!r} is one label, but its parts are labels as well; separate '
            'several labels by |'
            for row in rows for label in row.labels
            if ',' in label and {one.strip() for one in label.split(',')} <= known]


def _check_classes(path: Path, classes: List[str]) -> None:
    if len(classes) < 2:
        only = f'the label {classes[0]!r} alone' if classes else 'no label'
        raise InputError(
            f'{path}: has {only}; expected at least two classes. For "with or without", give the '
            'images without it a label too'
        )
    twice = alike(classes)
    if twice:
        raise InputError(f'{path}: labels that look alike: {shorten(twice)}; is that one class?')


def _take_folders_as_splits(rows: List[_Row]) -> None:
    """Set the splits from the folders that all images lie in, without a column of splits."""
    parts = [SPLIT_FOLDERS.get(row.image.split('/')[0].lower()) if '/' in row.image else None
             for row in rows]
    if all(parts) and rows[0].split is None:
        rows[:] = [row._replace(split=part) for row, part in zip(rows, parts, strict=True)]


def _check_train(path: Path, rows: List[_Row]) -> None:
    trained = [row for row in rows if row.split in (None, 'train')]
    if not trained:
        raise InputError(f'{path}: no image of the split train; expected some')
    known = {label for row in trained for label in row.labels}
    strange: Dict[str, _Row] = {}
    for row in rows:
        for label in row.labels:
            if label not in known:
                strange.setdefault(label, row)
    if strange:
        places = [f'{label!r} (line {row.line}, {row.split})' for label, row in strange.items()]
        raise InputError(
            f'{path}: no training image has the label {shorten(places)}; put an image of it into '
            'train, or take the label out'
        )


def _nfc(text: str) -> str:
    """Names of files may have accents as characters of their own."""
    return unicodedata.normalize('NFC', text)


class _Names:
    """Images of a folder, by path, by name and by name without suffix."""

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise InputError(f'{folder}: no such folder')
        self.folder = folder
        self.images = [path.relative_to(folder) for path in list_images(folder).images]
        self._paths = {_nfc(path.as_posix()): path.as_posix() for path in self.images}
        self._names: Dict[str, List[str]] = defaultdict(list)
        for path in self.images:
            for name in {path.name, path.stem, path.with_suffix('').as_posix()}:
                self._names[_nfc(name)].append(path.as_posix())

    def find(self, text: str) -> List[str]:
        """The images that a cell may mean."""
        text = _nfc(text.replace('\\', '/').removeprefix('./'))
        for folder in (self.folder.absolute(), self.folder.resolve()):
            text = text.removeprefix(f'{_nfc(folder.as_posix())}/')
        return [self._paths[text]] if text in self._paths else self._names.get(text, [])

    def left_out(self, path: Path, rows: List[_Row]) -> List[str]:
        """A line on images that no row names."""
        rest = sorted({*self._paths.values()} - {row.image for row in rows})
        return [f'{len(rest)} images that {path.name} does not name are left out: '
                f'{shorten(rest)}'] if rest else []
