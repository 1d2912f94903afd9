"""Interpret the values of masks: indices, colours, or background and foreground."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

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
from lspt_mm.converters.mask_files import (
    ImageFacts,
    RawMask,
    at,
    count_values,
    read_mask,
)
from lspt_mm.converters.mask_pairs import Pair
from lspt_mm.errors import InputError
from lspt_mm.utils.images import IGNORE_INDEX, spread_colours
from lspt_mm.utils.text import shorten

#: Kinds of mask values.
LABELS = ('indices', 'colors', 'binary')


@dataclass(eq=False)
class ScannedPair:
    """Statistics of an image and its mask, from one pass over both.

    ``counts`` has, for each of :data:`LABELS`, value to number of pixels; None where the mask
    cannot be read that way. ``palette``: number to 0xRRGGBB. ``digest`` and ``mask_digest`` are of
    the image's file and of the mask's pixels.
    """

    pair: Pair
    mask: Path
    facts: Optional[ImageFacts] = None
    size: tuple = ()
    counts: Dict[str, Optional[Dict[int, int]]] = field(default_factory=dict)
    rgb: bool = False
    palette: Dict[int, int] = field(default_factory=dict)
    lossy: bool = False
    digest: str = ''
    mask_digest: str = ''
    problem: str = ''

    def take(self, mask: RawMask) -> None:
        """Collect the statistics of the mask."""
        array = mask.rgb if mask.numbers is None else mask.numbers
        self.size, self.lossy, self.rgb = array.shape, mask.lossy, mask.rgb is not None
        self.mask_digest = hashlib.sha256(np.ascontiguousarray(array)).hexdigest()
        numbers = count_values(mask.numbers)
        colours = count_values(mask.rgb)
        if mask.palette is not None:
            self.palette = {value: int(mask.palette[value]) for value in numbers}
        if colours is None and all(0 <= value < 256 for value in numbers):
            colours = _sums((self.palette.get(v, v * 0x010101), n) for v, n in numbers.items())
        self.counts = {'indices': numbers, 'colors': colours, 'binary': numbers}


class Reader(NamedTuple):
    """A way to read masks: one of :data:`LABELS`, the class of each value, and the classes."""

    labels: str
    table: Dict[int, int]  #: value or 0xRRGGBB to class, 255 to ignore
    classes: List[MaskClass]
    colours: List[Colour]
    void: List[str]  #: ignored values, as text

    def counts(self, scan: ScannedPair) -> Dict[int, int]:
        """Class to pixels of a mask; 255 are those ignored."""
        return _sums((self.table[v], n) for v, n in scan.counts[self.labels].items())

    def total(self, scans: Iterable[ScannedPair]) -> Counter:
        """:meth:`counts` of several masks; 0 for classes that are in none."""
        return sum((Counter(self.counts(scan)) for scan in scans), Counter())

    def classes_in(self, scan: ScannedPair) -> set:
        """Classes of a mask."""
        return set(self.counts(scan)) - {IGNORE_INDEX}

    def has(self, value: str, scans: List[ScannedPair]) -> bool:
        """Whether any mask contains a value of --ignore; true for class names."""
        wanted = _value_of(value)
        return wanted is None or any(wanted in scan.counts[self.labels] for scan in scans)

    def read(self, path: Path) -> np.ndarray:
        """Class numbers (H, W) uint8 of a mask; 255 is ignored."""
        array = _array(read_mask(path), self.labels)
        labels = np.full(array.shape, IGNORE_INDEX, np.uint8)
        for value, label in self.table.items():
            if label != IGNORE_INDEX:
                labels[array == value] = label
        return labels


def _sums(pairs: Iterable[Tuple[int, int]]) -> Dict[int, int]:
    found: Counter = Counter()
    for key, count in pairs:
        found[key] += count
    return dict(found)


def choose_reader(
    scans: List[ScannedPair], named: Optional[List[MaskClass]], labels: Optional[str],
    ignore: Sequence[str],
) -> Reader:
    """Choose the reader that ``labels`` names, or the only one that the masks allow.

    Args:
        scans: At least one.
        named: The classes of a file, if there is one.
        labels: One of :data:`LABELS`, or None.
        ignore: Integers, colours (``r,g,b``, ``#rrggbb``), names of classes.

    Raises:
        InputError: If several readings are possible, or a value belongs to no class; a line for
            each value, with the first mask and the first pixel that have it.
    """
    if labels is None:
        labels = _only_reading(scans, named, {int(t) for t in ignore if _is_number(t)})
        if labels == 'colors' and named is None:
            _check_areas(scans, {_value_of(text) for text in ignore})
    lossy = [scan.pair.mask for scan in scans if scan.lossy]
    if lossy and labels != 'binary':
        raise InputError(
            f'{shorten(lossy)}: a lossy format (JPEG, WebP), whose values are not exact class '
            'labels; save masks as PNG. Black and white: --labels binary'
        )
    build = {'indices': _indices, 'colors': _colors, 'binary': _binary}[labels]
    return build(scans, named, _ignored(ignore, labels, named))


def _only_reading(scans: List[ScannedPair], named: Optional[List[MaskClass]], ignored: set) -> str:
    if any(scan.counts['indices'] is None for scan in scans):
        return 'colors'
    pixels = sum((Counter(scan.counts['indices']) for scan in scans), Counter())
    values = set(pixels) - ignored
    if not values or any(scan.lossy for scan in scans):
        return 'indices'  # which refuses it
    places = {place for scan in scans for place in scan.palette.items()}
    if named and named[0].colour is not None:
        if places or any(scan.rgb for scan in scans):
            return 'colors'
        raise InputError(
            'grey masks, and a class file with colours: pass --labels indices (line numbers '
            'from 0), --labels binary or --labels colors'
        )
    one_palette = len(places) == len(dict(places))  # a number has one colour in all masks
    if places and (named is None or not one_palette):
        kind = 'a palette' if one_palette else 'palettes that differ'
        raise InputError(
            f'masks with {kind}: pass --labels indices (palette indices), --labels colors, or '
            '--labels binary (index 0 is the background)'
        )
    numbered = named is not None and named[0].value is not None
    if values in ({0, 255}, {0, 1}) and (named is None or len(named) == 2) and not numbered:
        return 'binary'
    # All greys up to white are more likely those of smoothed edges.
    numbers = values - {IGNORE_INDEX} if not {254, IGNORE_INDEX} <= values else set()
    if named is not None or (len(numbers) > 1 and _consecutive(numbers)):
        return 'indices'
    rarest = min(values, key=pixels.get)
    scan = next(scan for scan in scans if rarest in scan.counts['indices'])
    raise InputError(
        f'masks with the values {shorten(sorted(values), 8)}: their meaning is ambiguous. Pass '
        '--labels indices if each is a class (with --ignore VALUE for others), or --labels '
        f'binary for background and foreground. The rarest is {rarest}, such as in '
        f'{scan.pair.mask} ({_first(scan, [rarest], "indices")})'
    )


#: Masks that are searched for areas of the colours that have none yet.
_SEARCHED = 100


def _check_areas(scans: List[ScannedPair], ignored: set) -> None:
    """Raise InputError for colours without an area, as those of smoothed edges are."""
    left, searched = _found(scans, 'colors') - ignored, 0
    for scan in scans:
        if searched == _SEARCHED or not left:
            break
        if not left.isdisjoint(scan.counts['colors']):
            left -= _with_area(read_mask(scan.mask).colours())
            searched += 1
    scan = next((scan for scan in scans if not left.isdisjoint(scan.counts['colors'])), None)
    if scan is not None:
        one = next(value for value in sorted(left) if value in scan.counts['colors'])
        others = f', and {len(left) - 1} others do not either' if len(left) > 1 else ''
        raise InputError(
            f'{scan.pair.mask}: {_as_text(one, "colors")} ({_first(scan, [one], "colors")}) fills '
            f'no 3 x 3 pixels in the first {searched} masks with such colours{others}: smoothed '
            'edges? Export masks without anti-aliasing, or list the colours in a class file. If '
            'thin lines or small things are a class: --labels colors'
        )


def _with_area(values: np.ndarray) -> set:
    """Values that fill 3 x 3 pixels somewhere in (H, W)."""
    middle, row = values[:, 1:-1], values[:, :-2]
    even = (middle == row) & (middle == values[:, 2:])  # three in a row
    even = even[:-2] & even[1:-1] & even[2:]
    even &= (middle[1:-1] == middle[:-2]) & (middle[1:-1] == middle[2:])
    return set(np.unique(middle[1:-1][even]).tolist())


class _Ignored(NamedTuple):
    """Classes to ignore by name, and values with their text on the command line."""

    names: set
    values: Dict[int, str]


def _ignored(ignore: Sequence[str], labels: str, named: Optional[List[MaskClass]]) -> _Ignored:
    known = [one.name for one in named or []]
    found = _Ignored({LABELME_IGNORE} & set(known), {})
    for text in ignore:
        value = _value_of(text)
        fits = _is_number(text) == (labels != 'colors')
        if text in known:
            found.names.add(text)
        elif value is not None and fits:
            found.values[value] = text
        else:
            what = 'no class' if value is None else 'a number' if _is_number(text) else 'a colour'
            expected = 'a colour (r,g,b or #rrggbb)' if labels == 'colors' else 'a number'
            raise InputError(
                f'--ignore {text} is {what}, the masks are read as {labels}: expected '
                + ', '.join([expected, *known])
            )
    return found


def _is_number(text: str) -> bool:
    return text.removeprefix('-').isdecimal()


def _value_of(text: str) -> Optional[int]:
    """The number or the packed colour that --ignore names; None for another text."""
    if _is_number(text):
        return int(text)
    colour = colour_of(text)
    return None if colour is None else pack(colour)


def _consecutive(values: set) -> bool:
    return values == set(range(len(values)))


def _indices(scans, named, ignored: _Ignored) -> Reader:
    found = _found(scans, 'indices') - set(ignored.values)
    if named is None:
        expected = found - {IGNORE_INDEX}
        negative = sorted(value for value in expected if value < 0)
        if negative:
            raise InputError(
                f'masks with {shorten(negative)}, which is no number of a class; for values that '
                f'mean nothing: --ignore={negative[0]}'
            )
    elif named[0].value is None:
        named = [one._replace(value=i) for i, one in enumerate(named)]
    if named is not None:
        expected = {one.value for one in named}
    if IGNORE_INDEX in found and _consecutive(expected):
        white = [scan for scan in scans if {0, IGNORE_INDEX} == set(scan.counts['indices'])]
        if white:
            raise InputError(
                f'{white[0].pair.mask}: has 0 and 255 alone ({len(white)} such masks). If 255 '
                'means nothing: --ignore 255; if it is the foreground of all masks: --labels binary'
            )
        ignored.values[IGNORE_INDEX] = str(IGNORE_INDEX)
    if named is None:
        kept = sorted(found - set(ignored.values))
        named = [MaskClass(f'class_{value}', value) for value in kept]
    return _reader('indices', scans, named, ignored, lambda one: one.value)


def _colors(scans, named, ignored: _Ignored) -> Reader:
    found = _found(scans, 'colors')
    if named is None:
        grey = [scan for scan in scans if not scan.rgb and not scan.palette
                and not {0, 255}.issuperset(scan.counts['indices'])]
        if 0 < len(grey) < len(scans):
            raise InputError(
                f'{grey[0].pair.mask}: has numbers, other masks have colours; expected all of one '
                'kind, or a class file with colours'
            )
        kept = sorted(found - set(ignored.values))
        named = [MaskClass(f'color_{value:06x}', None, unpack(value)) for value in kept]
    elif named[0].colour is None:
        raise InputError(
            "the masks are of colours, but the file of classes has none: expected lines "
            "'name r g b'"
        )
    return _reader('colors', scans, named, ignored, lambda one: pack(one.colour))


def _binary(scans, named, ignored: _Ignored) -> Reader:
    _found(scans, 'binary')
    named = named or [MaskClass('background'), MaskClass('foreground')]
    if len(named) != 2:
        raise InputError(f'--labels binary has two classes, the file of classes {len(named)}')
    found = sum((Counter(scan.counts['binary']) for scan in scans), Counter())
    others = [v for v, _ in found.most_common() if v > 0 and v not in ignored.values]
    high = next((value for value in (255, 1) if value in others), others[0] if others else None)
    if high is None or not found[0]:
        raise InputError(
            f'black and white masks with {", ".join(map(str, sorted(found)))} alone: expected 0 '
            'for the background, and another value'
        )
    if named[0].value is not None:  # the lower number is the background
        named = sorted(named, key=lambda one: one.value)
    named = [one._replace(value=high * i) for i, one in enumerate(named)]
    return _reader('binary', scans, named, ignored, lambda one: one.value)


def _found(scans: List[ScannedPair], labels: str) -> set:
    """All values; InputError if a mask cannot be read that way."""
    others = [scan for scan in scans if scan.counts[labels] is None]
    if not others:
        return set().union(*(scan.counts[labels] for scan in scans))
    if labels == 'colors':
        raise InputError(f'{others[0].pair.mask}: numbers of more than 8 bits, not colours')
    rgb = read_mask(others[0].mask).rgb
    place = np.argwhere(rgb != (rgb & 255) * 0x010101)[0]
    raise InputError(
        f'{others[0].pair.mask}: {_as_text(int(rgb[tuple(place)]), "colors")} at {at(place)} is a '
        f'colour, not one of {labels} ({len(others)} such masks); masks of colours: --labels colors'
    )


def _reader(labels, scans, named, ignored: _Ignored, key: Callable) -> Reader:
    """Build the reader with these classes; InputError for values without a class."""
    classes = [one for one in named if one.name not in ignored.names]
    table = {key(one): IGNORE_INDEX for one in named}
    table.update({key(one): i for i, one in enumerate(classes)})
    table.update(dict.fromkeys(ignored.values, IGNORE_INDEX))
    problems = _unknown(scans, table, labels)
    if len(classes) > MOST_CLASSES:
        problems.append(
            f'{len(classes)} classes, at most {MOST_CLASSES} fit: smoothed edges, or not masks? A '
            'class file lists the values to use'
        )
    elif len(classes) < 2:
        names = ', '.join(one.name for one in classes) or 'none'
        problems.append(f'only one class ({names}) is left: a segmentation needs at least two')
    if problems:
        raise InputError('\n  - '.join(problems))
    void = [*ignored.values.values(), *sorted(ignored.names)]
    return Reader(labels, table, classes, _colours_for(classes, scans), void)


def _unknown(scans: List[ScannedPair], table: Dict[int, int], labels: str) -> List[str]:
    """A line for each value that is no class; one line for all of them if they are many."""
    pixels = sum((Counter(scan.counts[labels]) for scan in scans), Counter())
    unknown = [value for value, _ in pixels.most_common() if value not in table]
    lines = []
    for values in [unknown] if len(unknown) > 8 else [[value] for value in unknown]:
        inside = [scan for scan in scans if not scan.counts[labels].keys().isdisjoint(values)]
        texts = [_as_text(value, labels) for value in values]
        line = f'{inside[0].pair.mask}: {shorten(texts)} ({_first(inside[0], values, labels)})'
        others = f', in {len(inside)} masks' if inside[1:] else ''
        if texts[1:]:
            what = 'belong to no class; smoothed edges? Export masks without anti-aliasing'
        else:
            what = f'belongs to no class; to ignore it: --ignore={texts[0]}'
        lines.append(line + others + ' ' + what)
    return lines


def _first(scan: ScannedPair, values: Iterable[int], labels: str) -> str:
    """How many pixels of a mask have these values, and where the first of them is."""
    places = np.argwhere(np.isin(_array(read_mask(scan.mask), labels), list(values)))
    many = '' if len(places) == 1 else 's'
    return f'{len(places)} pixel{many}, the first at {at(places[0])}'


def _colours_for(classes: List[MaskClass], scans: List[ScannedPair]) -> List[Colour]:
    """Colours of the file, of the masks' palette, or our own."""
    if all(one.colour is not None for one in classes):
        return [one.colour for one in classes]
    palette = {v: unpack(c) for scan in scans for v, c in scan.palette.items()}
    found = [palette.get(one.value) for one in classes]
    if None not in found and len(set(found)) == len(found):
        return found
    return spread_colours(len(classes))


def _array(mask: RawMask, labels: str) -> np.ndarray:
    """The array (H, W) of a mask that ``labels`` uses."""
    return mask.colours() if labels == 'colors' else mask.numbers


def _as_text(value: int, labels: str) -> str:
    return '#%06x' % value if labels == 'colors' else str(value)
