"""The classes of masks, from a file that names them."""

import re
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

from lspt_mm.errors import InputError

Colour = Tuple[int, int, int]
#: Classes have the numbers 0 to 254 in a mask of 8 bits; 255 is ignored.
MOST_CLASSES = 255
#: LabelMe's name of ignored pixels, -1 in its arrays and 255 in its masks.
LABELME_IGNORE = '__ignore__'
#: A name of a class; does not match lines of other formats, colours or numbers.
_NAME = re.compile(r"(?!\d+([.):=]|\s+\d|\s*$))[\w(][\w .,'()&+/%?-]*")
#: Titles of columns in the first line of a table of classes.
_COLUMNS = {
    'name': ('name', 'class', 'label', 'class name', 'class_name', 'category'),
    'value': ('pixel value', 'value', 'id', 'index', 'class id', 'class_id', 'class_index'),
    'r': ('r', 'red'), 'g': ('g', 'green'), 'b': ('b', 'blue'),
}


class MaskClass(NamedTuple):
    """A class, its number in the masks, and its colour; None where the file does not give them."""

    name: str
    value: Optional[int] = None
    colour: Optional[Colour] = None


def read_classes(path: Path) -> List[MaskClass]:
    """Classes of a text file, a line each, in their order.

    A line is ``name``, ``name r g b``, ``index name`` or ``index name r g b``, with blanks, commas,
    semicolons or tabs between. A line that begins with ``#`` is a comment. Files of other programs
    are recognised by their first lines: CVAT's ``labelmap.txt`` (``# label:color_rgb:...``),
    LabelMe's ``labels.txt`` (``__ignore__``, which it numbers -1), and tables with a line of
    titles, such as Roboflow's ``_classes.csv`` (``Pixel Value, Class``) and ``name,r,g,b``.

    Raises:
        InputError: For a file that cannot be read, has no class, or has one twice.
    """
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except FileNotFoundError as error:
        raise InputError(f'--classes {path}: no such file') from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'--classes {path}: not a text file in UTF-8 ({error})') from error
    lines = [(f'{path}, line {i}', line.strip()) for i, line in enumerate(lines, 1) if line.strip()]
    cvat = bool(lines) and lines[0][1].replace(' ', '').startswith('#label:color_rgb')
    lines = [(where, line) for where, line in lines if line[0] != '#']
    titles = _titles(lines[0][1]) if lines else None
    if cvat:
        classes = [_of_cvat(*line) for line in lines]
    elif titles:
        classes = [_of_table(titles, *line) for line in lines[1:]]
    else:
        classes = [_of_line(*line) for line in lines]
        if classes and classes[0].name == LABELME_IGNORE:
            classes = [MaskClass(LABELME_IGNORE, 255)] + [
                one._replace(value=i) for i, one in enumerate(classes[1:])
            ]
    for (where, line), one in zip(lines[bool(titles) :], classes, strict=True):
        if not _NAME.fullmatch(one.name):
            raise InputError(
                f"{where}: {line!r}: {one.name!r} is not a class name; expected lines 'name', "
                "'index name', 'name r g b', or a table with titles"
            )
    if len(classes) > 1 and all(re.search(r' \d+$', one.name) for one in classes):
        raise InputError(
            f'--classes {path}: each name ends in a number ({classes[0].name!r}). If that is the '
            "number of the class, write it in front: 'index name'; if not, join it: 'name_1'"
        )
    _check(path, classes)
    return classes


def named_classes(names: Sequence[str]) -> List[MaskClass]:
    """Classes of these names, in their order; InputError for none, or one that is no name."""
    for name in names:
        if not (isinstance(name, str) and _NAME.fullmatch(name)):
            raise InputError(f'classes: {name!r} is not a class name; expected a word, as text')
    classes = [MaskClass(name) for name in names]
    _check('classes', classes)
    return classes


def _check(place: Union[Path, str], classes: List[MaskClass]) -> None:
    if not classes:
        raise InputError(f'{place}: names no class')
    for what in ('name', 'value', 'colour'):
        seen = {}
        for one in classes:
            key = getattr(one, what)
            if key is not None and key in seen:
                raise InputError(f'{place}: {what} {key} is given twice')
            seen[key] = one
        if None in seen and len(seen) > 1:
            raise InputError(
                f'{place}: some lines have a {what} and some have none, such as '
                f'{seen[None].name!r}; expected it in all or in none'
            )
    if len(classes) > MOST_CLASSES:
        raise InputError(f'{place}: {len(classes)} classes, at most {MOST_CLASSES} fit')


def _cells(line: str) -> List[str]:
    return [cell.strip().strip('"') for cell in re.split('[,;\t]', line)]


def _titles(line: str) -> Optional[List[str]]:
    """Contents of the columns if this is a header line, else None; '' for an unused column."""
    cells = [cell.lower() for cell in _cells(line)]
    found = [next((k for k, names in _COLUMNS.items() if c in names), '') for c in cells]
    return found if 'name' in found else None


def _of_table(titles: List[str], where: str, line: str) -> MaskClass:
    row = dict(reversed(list(zip(titles, _cells(line), strict=False))))  # of equal titles the first
    colour = [row[part] for part in 'rgb' if part in row]
    numbers = [*colour, *([row['value']] if 'value' in row else [])]
    if not row.get('name') or not all(number.isdecimal() for number in numbers):
        raise InputError(f'{where}: {line!r}: does not match the titles in the first line')
    value = int(row['value']) if 'value' in row else None
    return MaskClass(row['name'], value, _colour(colour, where, line) if colour else None)


def _of_cvat(where: str, line: str) -> MaskClass:
    name, _, rest = line.partition(':')
    numbers = rest.split(':')[0].split(',')
    return MaskClass(name, None, _colour(numbers, where, line))


def _of_line(where: str, line: str) -> MaskClass:
    words = [word for word in re.split(r'[\s,:;]+', line) if word]
    colour = None
    if len(words) > 3 and all(word.isdecimal() for word in words[-3:]):
        colour, words = _colour(words[-3:], where, line), words[:-3]
    value = None
    if len(words) > 1 and words[0].isdecimal():
        value, words = int(words[0]), words[1:]
    if not words:
        raise InputError(f"{where}: {line!r}: expected 'name' or 'name r g b'")
    return MaskClass(' '.join(words), value, colour)


def _colour(numbers: Sequence[str], where: str, line: str) -> Colour:
    if len(numbers) != 3 or not all(n.strip().isdecimal() and int(n) < 256 for n in numbers):
        raise InputError(f'{where}: {line!r}: expected colours of three values 0 to 255')
    return tuple(int(number) for number in numbers)


def colour_of(text: str) -> Optional[Colour]:
    """The colour that ``r,g,b`` or ``#rrggbb`` names; None for another text."""
    found = re.fullmatch(r'#([0-9a-fA-F]{6})', text)
    if found:
        return unpack(int(found[1], 16))
    found = re.fullmatch(r'(\d{1,3}),(\d{1,3}),(\d{1,3})', text.replace(' ', ''))
    if found and max(map(int, found.groups())) < 256:
        return tuple(map(int, found.groups()))
    return None


def pack(colour: Sequence[int]) -> int:
    """A colour as one number, 0xRRGGBB."""
    red, green, blue = (int(part) for part in colour)
    return red << 16 | green << 8 | blue


def unpack(packed: int) -> Colour:
    """The inverse of :func:`pack`."""
    return packed >> 16 & 255, packed >> 8 & 255, packed & 255
