"""What the values of masks mean: indices, colours, or background and foreground."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence

import numpy as np

from lspt_mm.converters.mask_classes import (
    LABELME_IGNORE,
    MOST_CLASSES,
    Colour,
    MaskClass,
    colour_of,
    pack,
    unpack,
)
from lspt_mm.converters.mask_files import TRANSPARENT, ImageFacts, RawMask, at, read_mask
from lspt_mm.converters.mask_pairs import Pair
from lspt_mm.errors import InputError
from lspt_mm.utils.images import IGNORE_INDEX, spread_colours
from lspt_mm.utils.text import shorten

#: What the masks may hold.
LABELS = ('indices', 'colors', 'binary')
#: More values than this, and no file that names them: no mask of classes.
MOST_FOUND = 64


@dataclass
class Look:
    """What one pass over a pair has found."""

    pair: Pair
    mask: Path
    facts: Optional[ImageFacts] = None
    size: tuple = ()
    numbers: Optional[Dict[int, int]] = None  #: value to pixels
    rgb: Optional[Dict[int, int]] = None  #: 0xRRGGBB to pixels
    palette: Dict[int, int] = field(default_factory=dict)  #: number to 0xRRGGBB
    lossy: bool = False
    digest: str = ''  #: of the image's file
    mask_digest: str = ''  #: of the mask's pixels
    problem: str = ''

    def colours(self) -> Optional[Dict[int, int]]:
        """0xRRGGBB to pixels; None where numbers do not fit 8 bits."""
        if self.rgb is not None:
            return self.rgb
        if not self.palette and not all(0 <= value < 256 for value in self.numbers):
            return None
        found: Counter = Counter()
        for value, count in self.numbers.items():
            found[self.palette.get(value, value * 0x010101)] += count
        return dict(found)


class Reader(NamedTuple):
    """One of :data:`LABELS`, what becomes of each value, and the classes."""

    labels: str
    table: Dict[int, int]  #: value or 0xRRGGBB to class, 255 to ignore
    classes: List[MaskClass]
    colours: List[Colour]
    void: List[str]  #: values that are ignored, as they are told

    def counts(self, look: Look) -> Dict[int, int]:
        """Class to pixels of a mask; 255 are those ignored."""
        found: Counter = Counter()
        for value, count in _values(look, self.labels).items():
            found[self.table[value]] += count
        return dict(found)

    def classes_in(self, look: Look) -> set:
        """Classes of a mask."""
        return set(self.counts(look)) - {IGNORE_INDEX}

    def has(self, value: str, looks: List[Look]) -> bool:
        """Whether a mask has a value that --ignore names; classes count as there."""
        wanted = _value_of(value)
        return wanted is None or any(wanted in _values(look, self.labels) for look in looks)

    def read(self, path: Path) -> np.ndarray:
        """Class numbers (H, W) uint8 of a mask; 255 is ignored."""
        return self._labels_of(read_mask(path))

    def _labels_of(self, mask: RawMask) -> np.ndarray:
        array = _array(mask, self.labels)
        if array.dtype == np.uint8:
            by_value = np.full(256, IGNORE_INDEX, np.uint8)
            for value, label in self.table.items():
                by_value[value : value + 1] = label
            return by_value[array]
        labels = np.full(array.shape, IGNORE_INDEX, np.uint8)
        for value, label in self.table.items():
            labels[array == value] = label
        return labels


def choose_reader(
    looks: List[Look], named: Optional[List[MaskClass]], labels: Optional[str],
    ignore: Sequence[str],
) -> Reader:
    """The reader that ``labels`` names, or the only one that the masks allow.

    Args:
        looks: At least one.
        named: The classes of a file, if there is one.
        labels: One of :data:`LABELS`, or None.
        ignore: Integers, colours (``r,g,b``, ``#rrggbb``), ``transparent``, names of classes.

    Raises:
        InputError: If several readings are possible, or a mask does not fit; a line for each, with
            its first pixel that does not.
    """
    labels = labels or _only_reading(looks, named, {int(t) for t in ignore if _is_number(t)})
    lossy = [look.pair.mask for look in looks if look.lossy]
    if lossy and labels != 'binary':
        raise InputError(
            f'{shorten(lossy)}: a format that changes values, so that they name no class; save '
            'masks as PNG. Black and white: --labels binary'
        )
    build = {'indices': _indices, 'colors': _colors, 'binary': _binary}[labels]
    return build(looks, named, _Ignored(ignore, labels, named))


def _only_reading(looks: List[Look], named: Optional[List[MaskClass]], ignored: set) -> str:
    if any(look.numbers is None for look in looks):
        return 'colors'
    pixels = sum((Counter(look.numbers) for look in looks), Counter())
    values = set(pixels) - ignored
    with_palette = any(look.palette for look in looks)
    if any(look.lossy for look in looks):
        return 'indices'  # which refuses it
    if named and named[0].colour is not None:
        if with_palette or any(look.rgb is not None for look in looks):
            return 'colors'
        raise InputError(
            'grey masks, and a file of classes with colours: say whether their values are '
            '--labels indices (the number of the line, from 0) or --labels colors'
        )
    if values in ({0, 255}, {0, 1}) and (named is None or len(named) == 2):
        return 'binary'
    if named is not None and not (values == {0, 255} and named[0].value is None):
        return 'indices'
    if with_palette:
        raise InputError(
            'masks with a palette: say whether their classes are --labels indices (places in the '
            'palette) or --labels colors'
        )
    # More of it is rather a class, such as the white of black and white.
    rarely_void = pixels[IGNORE_INDEX] < 0.1 * sum(pixels.values())
    if named is None and len(values) > 1 and rarely_void and _consecutive(values - {IGNORE_INDEX}):
        return 'indices'
    rarest = min(values, key=pixels.get)
    look = next(look for look in looks if rarest in look.numbers)
    raise InputError(
        f'masks of the values {shorten(sorted(values), 8)}: say what they mean. --labels indices: '
        'each is a class (and --ignore VALUE for those that are none); --labels binary: '
        f'background and foreground. The rarest is {rarest}, such as in {look.pair.mask} '
        f'({_first(look, [rarest], "indices")})'
    )


class _Ignored:
    """Numbers, packed colours and names that are to be ignored, by what is said of them."""

    def __init__(self, ignore: Sequence[str], labels: str, named: Optional[List[MaskClass]]):
        known = [one.name for one in named or []]
        self.names = {LABELME_IGNORE} & set(known)
        self.values: Dict[int, str] = {}
        for text in ignore:
            is_number = _is_number(text)
            if text in known:
                self.names.add(text)
            elif _value_of(text) is not None and (
                text == 'transparent' or is_number == (labels != 'colors')
            ):
                self.values[_value_of(text)] = text
            else:
                what = 'a number' if is_number else 'a colour' if colour_of(text) else 'no class'
                expected = 'a colour (r,g,b or #rrggbb)' if labels == 'colors' else 'a number'
                raise InputError(
                    f'--ignore {text} is {what}, the masks are read as {labels}: expected '
                    + ', '.join([expected, 'transparent', *known])
                )


def _is_number(text: str) -> bool:
    return text.removeprefix('-').isdecimal()


def _value_of(text: str) -> Optional[int]:
    """The number or the packed colour that --ignore names; None for another text."""
    if text == 'transparent':
        return TRANSPARENT
    if _is_number(text):
        return int(text)
    colour = colour_of(text)
    return None if colour is None else pack(colour)


def _consecutive(values: set) -> bool:
    return values == set(range(len(values)))


def _indices(looks, named, ignored: _Ignored) -> Reader:
    _all_of_one_channel(looks, 'indices')
    found = set().union(*(look.numbers for look in looks)) - set(ignored.values)
    if named is None:
        expected = found - {IGNORE_INDEX}
        negative = sorted(value for value in expected if value < 0 and value != TRANSPARENT)
        if negative:
            raise InputError(
                f'masks with {shorten(negative)}, which is no number of a class; for values that '
                f'mean nothing: --ignore={negative[0]}'
            )
    elif named[0].value is None:
        named = [one._replace(value=i) for i, one in enumerate(named)]
    if named is not None:
        expected = {one.value for one in named} - {IGNORE_INDEX}
    if IGNORE_INDEX in found and _consecutive(expected):
        ignored.values[IGNORE_INDEX] = str(IGNORE_INDEX)
    if named is None:
        kept = sorted(found - set(ignored.values) - {TRANSPARENT})
        if len(kept) > MOST_FOUND:
            _too_many(looks, lambda look: look.numbers, 'values')
        named = [MaskClass(f'class_{value}', value) for value in kept]
    return _reader('indices', looks, named, ignored, lambda one: one.value)


def _colors(looks, named, ignored: _Ignored) -> Reader:
    deep = [look.pair.mask for look in looks if look.colours() is None]
    if deep:
        raise InputError(f'{shorten(deep)}: numbers of more than 8 bits, not colours')
    if named is None:
        found = set().union(*(look.colours() for look in looks))
        kept = sorted(found - set(ignored.values) - {TRANSPARENT})
        if len(kept) > MOST_FOUND:
            _too_many(looks, Look.colours, 'colours')
        named = [MaskClass(f'color_{value:06x}', None, unpack(value)) for value in kept]
    elif named[0].colour is None:
        raise InputError(
            "the masks are of colours, but the file of classes has none: expected lines "
            "'name r g b'"
        )
    return _reader('colors', looks, named, ignored, lambda one: pack(one.colour))


def _binary(looks, named, ignored: _Ignored) -> Reader:
    _all_of_one_channel(looks, 'binary')
    named = named or [MaskClass('background'), MaskClass('foreground')]
    if len(named) != 2:
        raise InputError(f'--labels binary has two classes, the file of classes {len(named)}')
    found: Counter = Counter()
    for look in looks:
        found.update(_values(look, 'binary'))
    others = [value for value, _ in found.most_common() if value and value not in ignored.values]
    high = next((value for value in (255, 1) if value in others), others[0] if others else None)
    if high is None or not found[0]:
        raise InputError(
            f'black and white masks with {", ".join(map(str, sorted(found)))} alone: expected 0 '
            'for the background, and another value'
        )
    named = [one._replace(value=high * i) for i, one in enumerate(named)]
    return _reader('binary', looks, named, ignored, lambda one: one.value)


def _all_of_one_channel(looks: List[Look], labels: str) -> None:
    coloured = [look for look in looks if look.numbers is None]
    if coloured:
        rgb = read_mask(coloured[0].mask).rgb
        place = np.argwhere((rgb != TRANSPARENT) & (rgb != (rgb & 255) * 0x010101))[0]
        raise InputError(
            f'{coloured[0].pair.mask}: {_told(int(rgb[tuple(place)]), "colors")} at {at(place)} is '
            f'a colour, not one of {labels} ({len(coloured)} such masks); masks of colours: '
            '--labels colors'
        )


def _reader(labels, looks, named, ignored: _Ignored, key: Callable) -> Reader:
    """The reader with these classes, once every value of every mask is known to it."""
    classes = [one for one in named if one.name not in ignored.names]
    table = {key(one): IGNORE_INDEX for one in named}
    table.update({key(one): i for i, one in enumerate(classes)})
    table.update(dict.fromkeys(ignored.values, IGNORE_INDEX))
    problems = [line for look in looks for line in _strange(look, table, labels)]
    if len(classes) > MOST_CLASSES:
        problems.append(f'{len(classes)} classes, at most {MOST_CLASSES} fit')
    elif len(classes) < 2:
        names = ', '.join(one.name for one in classes) or 'none'
        problems.append(f'only one class ({names}) is left: a segmentation needs at least two')
    if problems:
        raise InputError('\n  - '.join(problems))
    void = [*ignored.values.values(), *sorted(ignored.names)]
    return Reader(labels, table, classes, _colours_for(classes, looks), void)


def _strange(look: Look, table: Dict[int, int], labels: str) -> List[str]:
    strange = {v: n for v, n in _values(look, labels).items() if v not in table}
    if not strange:
        return []
    most = sorted(strange, key=strange.get, reverse=True)
    hint = '; smoothed edges? Draw masks without' if len(strange) > 20 else ''
    return [
        f'{look.pair.mask}: {shorten((_told(value, labels) for value in most), 4)} '
        f'({_first(look, strange, labels)}) belongs to no class{hint}'
    ]


def _first(look: Look, values: Iterable[int], labels: str) -> str:
    """How many pixels of a mask have these values, and where the first of them is."""
    places = np.argwhere(np.isin(_array(read_mask(look.mask), labels), list(values)))
    many = '' if len(places) == 1 else 's'
    return f'{len(places)} pixel{many}, the first at {at(places[0])}'


def _too_many(looks: List[Look], values: Callable, what: str) -> None:
    worst = max(looks, key=lambda look: len(values(look)))
    raise InputError(
        f'{worst.pair.mask}: {len(values(worst))} {what}, too many to be classes: smoothed edges, '
        'or no mask; each class must have one value. A file of classes names those that are some'
    )


def _colours_for(classes: List[MaskClass], looks: List[Look]) -> List[Colour]:
    """Colours of the file, of the masks' palette, or our own."""
    if all(one.colour is not None for one in classes):
        return [one.colour for one in classes]
    palette = {v: unpack(c) for look in looks for v, c in look.palette.items()}
    found = [palette.get(one.value) for one in classes]
    if None not in found and len(set(found)) == len(found):
        return found
    return spread_colours(len(classes))


def _array(mask: RawMask, labels: str) -> np.ndarray:
    """What ``labels`` reads of a mask; black and white of a lossy format are cut at the middle."""
    if labels == 'colors':
        return mask.colours()
    return (mask.numbers > 127) * np.uint8(255) if mask.lossy else mask.numbers


def _values(look: Look, labels: str) -> Dict[int, int]:
    """Value to pixels, as :func:`_array` has them."""
    if labels == 'colors':
        return look.colours()
    if not look.lossy:
        return look.numbers
    found: Counter = Counter()
    for value, count in look.numbers.items():
        found[255 * (value > 127)] += count
    return dict(found)


def _told(value: int, labels: str) -> str:
    if value == TRANSPARENT:
        return 'transparent'
    return '#%06x' % value if labels == 'colors' else str(value)
