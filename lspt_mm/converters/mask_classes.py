"""The classes of masks: from a file that names them, or from what the masks hold."""

import re
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

from lspt_mm.errors import InputError

Colour = Tuple[int, int, int]
#: Classes have the numbers 0 to 254 in a mask of 8 bits; 255 is ignored.
MOST_CLASSES = 255


class MaskClass(NamedTuple):
    """A class, its number in the masks, and its colour; each None where the file does not say."""

    name: str
    value: Optional[int] = None
    colour: Optional[Colour] = None


def read_classes(path: Path) -> List[MaskClass]:
    """Classes of a text file, a line each, in their order.

    A line is ``name``, ``name r g b``, ``number name`` or ``number name r g b``; between them are
    blanks, commas, colons, semicolons or tabs, so that CVAT's ``labelmap.txt`` is one too. What
    stands behind a ``#`` at the beginning of a line is a comment.

    Raises:
        InputError: For a file that cannot be read, has no class, or has one twice.
    """
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except FileNotFoundError as error:
        raise InputError(f'--classes {path}: no such file') from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'--classes {path}: not a text file in UTF-8 ({error})') from error
    classes = [
        _class_of(line, f'{path}, line {number}') for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith('#')
    ]  # fmt: skip
    if not classes:
        raise InputError(f'--classes {path}: names no class')
    for what in ('name', 'value', 'colour'):
        seen = {}
        for one in classes:
            key = getattr(one, what)
            if key is not None and key in seen:
                raise InputError(f'--classes {path}: {what} {key} is given twice')
            seen[key] = one
        if None in seen and len(seen) > 1:
            raise InputError(
                f'--classes {path}: some lines have a {what} and some have none, such as '
                f'{seen[None].name!r}; expected it in all or in none'
            )
    if len(classes) > MOST_CLASSES:
        raise InputError(f'--classes {path}: {len(classes)} classes, at most {MOST_CLASSES} fit')
    return classes


def _class_of(line: str, where: str) -> MaskClass:
    words = [word for word in re.split(r'[\s,:;]+', line.strip()) if word]
    colour = None
    tail = words[-3:]
    if len(words) > 3 and all(re.fullmatch(r'\d+', word) for word in tail):
        colour = tuple(int(word) for word in tail)
        if max(colour) > 255:
            raise InputError(f'{where}: {line.strip()!r}: colours are of three values 0 to 255')
        words = words[:-3]
    value = None
    if len(words) > 1 and re.fullmatch(r'\d+', words[0]):
        value, words = int(words[0]), words[1:]
    if not words:
        raise InputError(f"{where}: {line.strip()!r}: expected 'name' or 'name r g b'")
    return MaskClass(' '.join(words), value, colour)


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
