"""What the values of masks mean: numbers of classes, colours, 0 and the rest."""

from collections import Counter
from dataclasses import dataclass
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from lspt_mm.converters.mask_classes import (
    MOST_CLASSES,
    Colour,
    MaskClass,
    colour_of,
    pack,
    unpack,
)
from lspt_mm.converters.mask_files import ImageFacts, RawMask
from lspt_mm.converters.mask_pairs import Pair
from lspt_mm.errors import InputError
from lspt_mm.utils.images import IGNORE_INDEX, spread_colours
from lspt_mm.utils.text import shorten

#: What the masks may hold.
KINDS = ('auto', 'numbers', 'colours', 'binary')
#: More values than this, and no file that names them: no mask of classes.
MOST_FOUND = 64


@dataclass
class Look:
    """What one pass over a pair has found."""

    pair: Pair
    facts: Optional[ImageFacts] = None
    size: tuple = ()
    numbers: Optional[Dict[int, int]] = None  #: value to pixels
    colours: Optional[Dict[int, int]] = None  #: 0xRRGGBB to pixels
    palette: Optional[Dict[int, Colour]] = None
    lossy: bool = False
    problem: str = ''

    @property
    def stored(self) -> bool:
        """Whether the mask was drawn on pixels that the image's EXIF has yet to turn."""
        facts = self.facts
        return bool(facts.turn) and self.size == facts.stored and self.size != facts.shown


class Reading(NamedTuple):
    """How masks are read: 'numbers' or 'colours', what becomes of each value, and the classes."""

    kind: str
    table: Dict[int, int]  #: value or 0xRRGGBB to class, 255 to ignore
    classes: List[MaskClass]
    colours: List[Colour]
    nearest: bool = False


def decide(
    looks: List[Look],
    named: Optional[List[MaskClass]],
    kind: str,
    ignore: Sequence[str],
    nearest: bool,
) -> Tuple[Optional[Reading], List[str]]:
    """What the masks' values mean, or what keeps them from meaning anything."""
    if kind == 'auto':
        kind = _kind_of(looks, named)
    if kind == 'colours':
        return _by_colours(looks, named, ignore, nearest)
    coloured = [look.pair.mask for look in looks if look.numbers is None]
    if coloured:
        return None, [
            f'{shorten(coloured)} of colours, not of one channel of {kind}; for masks of colours: '
            "--classes FILE with lines 'name r g b', or --kind colours"
        ]
    return _by_numbers(looks, named, ignore, kind == 'binary', nearest)


def _kind_of(looks: List[Look], named: Optional[List[MaskClass]]) -> str:
    if any(look.numbers is None for look in looks):
        return 'colours'
    values = set().union(*(look.numbers for look in looks))
    if named and named[0].colour is not None:
        known = {pack(one.colour) for one in named}
        with_colours = [look.colours for look in looks if look.colours is not None]
        if len(with_colours) == len(looks) and all(set(c) & known for c in with_colours):
            return 'colours'
    elif _contradict([look.palette for look in looks if look.palette]):
        return 'colours'  # numbers that stand for another colour in another file mean nothing
    if 255 in values and values <= {0, 255} and (named is None or len(named) == 2):
        return 'binary'
    return 'numbers'


def _contradict(palettes: Iterable[Dict[int, Colour]]) -> bool:
    seen: Dict[int, Colour] = {}
    return any(seen.setdefault(v, c) != c for palette in palettes for v, c in palette.items())


def _ignored(ignore: Sequence[str], named: Optional[List[MaskClass]]) -> Tuple[set, set, set]:
    """Numbers, packed colours and names that are to be ignored."""
    numbers, colours, names = set(), set(), set()
    known = {one.name: one for one in named or []}
    for text in ignore:
        if text in known:
            names.add(text)
        elif text.isdecimal():
            numbers.add(int(text))
        elif colour_of(text) is not None:
            colours.add(pack(colour_of(text)))
        else:
            raise InputError(
                f'--ignore {text}: expected a number, a colour (r,g,b or #rrggbb)'
                + (f', or one of {", ".join(known)}' if known else '')
            )
    return numbers, colours, names


def _by_colours(looks, named, ignore, nearest) -> Tuple[Optional[Reading], List[str]]:
    if named and named[0].colour is None:
        return None, [
            "the masks are of colours, but the file of classes has none: lines 'name r g b'"
        ]
    for look in looks:
        if look.colours is None:  # a grey picture among colour ones: black and white are colours
            look.colours = {pack((v, v, v)): n for v, n in look.numbers.items() if 0 <= v < 256}
    _, colours, names = _ignored(ignore, named)
    if named is None:
        found = Counter()
        for look in looks:
            found.update(look.colours)
        kept = sorted(set(found) - colours)
        if len(kept) > MOST_FOUND:
            worst = max(looks, key=lambda look: len(look.colours))
            return None, [_too_many(worst, len(worst.colours), 'colours')]
        named = [MaskClass(f'colour_{value:06x}', None, unpack(value)) for value in kept]
    classes = [one for one in named if one.name not in names]
    table = _table_of(named, classes, colours, lambda one: pack(one.colour))
    reading = Reading('colours', table, classes, [one.colour for one in classes], nearest)
    return reading, _faults(reading, looks, lambda look: look.colours, _hex)


def _by_numbers(looks, named, ignore, binary, nearest) -> Tuple[Optional[Reading], List[str]]:
    numbers, _, names = _ignored(ignore, named)
    if not binary:
        numbers |= {255} if 255 not in [one.value for one in named or []] else set()
        if any(max(look.numbers) == 65535 for look in looks):
            numbers.add(65535)
    found = set().union(*(look.numbers for look in looks)) - numbers
    if binary:
        if named is None:
            named = [MaskClass('background'), MaskClass('foreground')]
        if len(named) != 2:
            return None, [f'binary masks have two classes, the file names {len(named)}']
        if not nearest and (0 not in found or len(found) < 2):
            values = ', '.join(map(str, sorted(found))) or 'nothing'
            return None, [f'black and white masks with {values} alone: expected 0 and 255']
        high = max(found, default=1) or 1
        named = [one._replace(value=high * i) for i, one in enumerate(named)]
    elif named is None:
        lossy = [look for look in looks if look.lossy and len(look.numbers) > 2]
        if len(found) > MOST_FOUND or (lossy and len(found) > 8):
            worst = max(lossy or looks, key=lambda look: len(look.numbers))
            return None, [_too_many(worst, len(worst.numbers), 'values')]
        named = [MaskClass(f'class_{value}', value) for value in sorted(found)]
    elif named[0].value is None:
        named = [one._replace(value=i) for i, one in enumerate(named)]
    classes = [one for one in named if one.name not in names]
    table = _table_of(named, classes, numbers, lambda one: one.value)
    reading = Reading('numbers', table, classes, _colours_for(classes, looks), nearest)
    return reading, _faults(reading, looks, lambda look: look.numbers, str)


def _table_of(named, classes, ignored: set, key: Callable) -> Dict[int, int]:
    """What becomes of each value: that of a class ``key`` gives, ``ignored`` are values."""
    table = {key(one): IGNORE_INDEX for one in named}
    table.update(dict.fromkeys(ignored, IGNORE_INDEX))
    table.update({key(one): i for i, one in enumerate(classes)})
    return table


def _faults(reading: Reading, looks, values: Callable, shown: Callable) -> List[str]:
    """A line for each mask with values that mean nothing, and for too few or too many classes."""
    lines = []
    for look in looks if not reading.nearest else ():
        strange = {v: n for v, n in values(look).items() if v not in reading.table}
        if strange:
            lines.append(_strange(look, strange, len(values(look)), shown))
    return lines + _too_few(reading.classes)


def _too_few(classes: List[MaskClass]) -> List[str]:
    if len(classes) > MOST_CLASSES:
        return [f'{len(classes)} classes, at most {MOST_CLASSES} fit']
    if len(classes) < 2:
        names = ', '.join(one.name for one in classes) or 'none'
        return [f'only one class ({names}) is left: a segmentation needs at least two']
    return []


def _colours_for(classes: List[MaskClass], looks: List[Look]) -> List[Colour]:
    """Colours of the file, of the masks' palette, or our own."""
    if all(one.colour is not None for one in classes):
        return [one.colour for one in classes]
    palette = {v: c for look in looks for v, c in (look.palette or {}).items()}
    found = [palette.get(one.value) for one in classes]
    if None not in found and len(set(found)) == len(found):
        return found
    return spread_colours(len(classes))


def _strange(look: Look, strange: Dict[int, int], total: int, shown: Callable) -> str:
    most = sorted(strange, key=strange.get, reverse=True)
    values = ', '.join(shown(value) for value in most[:4])
    more = f', ... ({len(most)} such)' if len(most) > 4 else ''
    hint = ''
    if look.lossy:
        hint = '; a JPEG file blurs its colours, save masks as PNG, or try --nearest'
    elif total > 40:
        hint = '; smoothed edges? Draw masks without, or try --nearest'
    return (
        f'{look.pair.mask}: {values}{more} ({sum(strange.values())} pixels) belong to no class'
        f'{hint}'
    )


def _too_many(look: Look, count: int, what: str) -> str:
    cause = 'a JPEG file blurs its colours: save masks as PNG' if look.lossy else (
        'smoothed edges, or not a mask: each class must have one value'
    )  # fmt: skip
    return (
        f'{look.pair.mask}: {count} {what}, too many to be classes; {cause}. With --classes FILE '
        "(lines 'name r g b') and --nearest each pixel goes to the nearest class; black and white: "
        '--kind binary --nearest'
    )


def _hex(packed: int) -> str:
    return '#%06x' % packed


def as_labels(mask: RawMask, reading: Reading) -> np.ndarray:
    """Class numbers (H, W) uint8 of a mask; 255 is ignored."""
    array = mask.numbers
    if reading.kind == 'colours':
        array = mask.colours if mask.colours is not None else mask.numbers * 0x010101
    values, places = np.unique(array, return_inverse=True)
    labels = [reading.table.get(value, -1) for value in values.tolist()]
    if reading.nearest:
        known = list(reading.table)
        labels = [
            reading.table[_nearest(value, known, reading.kind)] if label < 0 else label
            for value, label in zip(values.tolist(), labels, strict=True)
        ]
    return np.asarray(labels, np.uint8)[places.reshape(array.shape)]


def _nearest(value: int, known: List[int], kind: str) -> int:
    if kind == 'numbers':
        return min(known, key=lambda other: abs(other - value))
    colour = unpack(value)
    return min(
        known, key=lambda other: sum((a - b) ** 2 for a, b in zip(unpack(other), colour,
                                                                  strict=True))
    )  # fmt: skip


def counts_by_class(look: Look, reading: Reading) -> Dict[int, int]:
    """Class to pixels of a mask, before --nearest; 255 are those ignored."""
    counts: Dict[int, int] = {}
    for value, count in (look.colours if reading.kind == 'colours' else look.numbers).items():
        label = reading.table.get(value)
        if label is not None:
            counts[label] = counts.get(label, 0) + count
    return counts


def classes_in(look: Look, reading: Reading) -> set:
    """Classes of a mask."""
    return set(counts_by_class(look, reading)) - {IGNORE_INDEX}


def counted(array: Optional[np.ndarray]) -> Optional[Dict[int, int]]:
    """Value to number of pixels."""
    if array is None:
        return None
    values, counts = np.unique(array, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
