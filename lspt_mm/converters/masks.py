"""Your own images and masks: from two folders to the layout that a training reads."""

import json
import os
import shutil
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np
from PIL import Image

from lspt_mm.converters.archives import link_or_copy
from lspt_mm.converters.mask_classes import read_classes
from lspt_mm.converters.mask_files import TURNS, image_facts, read_mask, turned
from lspt_mm.converters.mask_meaning import (
    KINDS,
    Look,
    Reading,
    as_labels,
    classes_in,
    counted,
    counts_by_class,
    decide,
)
from lspt_mm.converters.mask_pairs import Pair, find_pairs
from lspt_mm.converters.mask_split import split_of
from lspt_mm.converters.splits import about_json, as_json, raise_if_any, write_lists
from lspt_mm.datasets.mask_folder import IMAGES, MASKS
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import map_with_progress
from lspt_mm.utils.images import IGNORE_INDEX
from lspt_mm.utils.text import shorten

OWNER = 'lspt_mm own_masks'


class Outcome(NamedTuple):
    """What was prepared: about.json's content, a table to show, and remarks."""

    about: dict
    table: str
    remarks: List[str]


def prepare_masks(
    images: Path,
    masks: Path,
    dest: Path,
    classes: Optional[Path] = None,
    kind: str = 'auto',
    ignore: Sequence[str] = (),
    image_suffix: str = '',
    mask_suffix: str = '',
    val_share: float = 0.2,
    test_share: float = 0.0,
    seed: int = 0,
    nearest: bool = False,
    exif: str = 'auto',
    skip_unpaired: bool = False,
    copy: bool = False,
    overwrite: bool = False,
) -> Outcome:
    """Have ``images``, ``masks``, the lists, ``classes.txt`` and ``about.json`` in ``dest``.

    Masks are written anew: palette PNGs of class numbers from 0, 255 being ignored. Images are
    linked to.

    Args:
        images (Path): Folder of the images. Folders ``train``, ``val`` (and ``test``) in it, and
            nothing beside them, are taken for the split.
        masks (Path): Folder of the masks; names as the images', folders as the images'.
        dest (Path): Folder to write, made if absent.
        classes (Path, optional): File of the classes (``mask_classes.read_classes``); by default
            they are what the masks hold.
        kind (str): 'numbers' (of classes), 'colours', 'binary' (0 and anything else), or 'auto'.
        ignore (list): Numbers, colours (``r,g,b`` or ``#rrggbb``) or names of classes
            whose pixels count for nothing. 255 in masks of numbers is always ignored.
        image_suffix, mask_suffix (str): What follows the common part of the files' names.
        val_share, test_share (float): Share of the images that are val (at least one) and test.
        seed (int): Of the split.
        nearest (bool): Give colours that are no class the nearest class's, as for JPEG masks.
        exif (str): For photos that their EXIF data turn: whether masks are as the photo is 'shown'
            or as it is 'stored'; 'auto' goes by the size.
        skip_unpaired (bool): Leave out images without masks and masks without images.
        copy (bool): Copy the images rather than link to them.
        overwrite (bool): Prepare a folder anew although its classes become others, which runs
            that were trained on it do not know.

    Raises:
        InputError: For everything that is wrong, in one message; nothing is written then.
    """
    _check_arguments(images, masks, dest, kind, val_share, test_share, exif)
    pairs, problems = find_pairs(images, masks, image_suffix, mask_suffix, skip_unpaired)
    named = read_classes(classes) if classes else None
    looks = map_with_progress(
        lambda pair: _look(pair, images, masks), pairs, 'reading images and masks'
    )
    problems += [look.problem for look in looks if look.problem]
    sound = [look for look in looks if not look.problem]
    problems += _wrong_sizes(sound)
    reading = None
    if sound:
        reading, more = decide(sound, named, kind, ignore, nearest)
        problems += more
    raise_if_any(str(masks), problems)
    if not overwrite:
        _check_same_classes(dest, [one.name for one in reading.classes])
    split, how = split_of(looks, reading, val_share, test_share, seed)
    link_or_copy(images, dest / IMAGES, copy)
    _write_masks(looks, split, masks, dest, reading, exif)
    about = {
        'name': dest.absolute().name,
        'classes': [one.name for one in reading.classes],
        'palette': [list(colour) for colour in reading.colours],
        'images': {name: len(part) for name, part in split.items()},
        'split': how,
        'masks': reading.kind,
        'written_by': OWNER,
    }
    _write_lists(dest, split, about, reading)
    remarks = _remarks(looks, split, reading, exif)
    return Outcome(about, _table(split, reading), remarks)


def _check_arguments(images, masks, dest, kind, val_share, test_share, exif) -> None:
    for name, value, choices in (('--kind', kind, KINDS), ('--exif', exif,
                                 ('auto', 'shown', 'stored'))):  # fmt: skip
        if value not in choices:
            raise InputError(f'{name} {value}: expected one of {", ".join(choices)}')
    if not 0 < val_share < 1 or not 0 <= test_share < 1 or val_share + test_share >= 1:
        raise InputError(
            f'--val-share {val_share}, --test-share {test_share}: expected shares above 0 (test: '
            'or 0) that leave something to train on'
        )
    if dest.exists() and not dest.is_dir():
        raise InputError(f'--to {dest}: is a file, expected a folder')
    for option, folder in (('--images', images), ('--masks', masks)):
        inside = dest.resolve()
        if folder.is_dir() and (folder.resolve() == inside or folder.resolve() in inside.parents):
            raise InputError(f'--to {dest} lies in {option} {folder}: name a folder outside it')
    if (dest / MASKS).exists() and not _is_ours(dest):
        raise InputError(
            f'--to {dest}: has a folder {MASKS} that was not written by this command; name another'
        )


def _check_same_classes(dest: Path, classes: List[str]) -> None:
    """Raise InputError if ``dest`` was prepared with other classes before."""
    try:
        before = json.loads((dest / 'about.json').read_text(encoding='utf-8'))['classes']
    except (OSError, ValueError, KeyError, TypeError):
        return
    if before != classes:
        raise InputError(
            f'--to {dest} was prepared before, with {len(before)} classes ({shorten(before)}); '
            f'now there are {len(classes)} ({shorten(classes)}). Runs that were trained on it '
            'would read other labels: name another folder, or say --overwrite'
        )


def _is_ours(dest: Path) -> bool:
    try:
        return OWNER in (dest / 'about.json').read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError):
        return (dest / MASKS / '.ours').is_file()


# ---- looking ----------------------------------------------------------------------------------


def _look(pair: Pair, images: Path, masks: Path) -> Look:
    found = Look(pair)
    try:
        found.facts = image_facts(images / pair.image)
        mask = read_mask(masks / pair.mask)
    except InputError as error:
        found.problem = str(error)
        return found
    array = mask.colours if mask.numbers is None else mask.numbers
    found.size = tuple(array.shape)
    found.numbers = counted(mask.numbers)
    found.colours = counted(mask.colours)
    found.palette, found.lossy = mask.palette, mask.lossy
    return found


def _wrong_sizes(looks: List[Look]) -> List[str]:
    wrong = [
        f'{look.pair.mask} ({_by(look.size)}, its image {_by(look.facts.shown)})'
        for look in looks if look.size not in (look.facts.shown, look.facts.stored)
    ]  # fmt: skip
    return [f"sizes differ from the images': {shorten(wrong)}"] if wrong else []


def _by(size: tuple) -> str:
    return f'{size[1]}x{size[0]}'


# ---- writing ----------------------------------------------------------------------------------


def _write_masks(looks, split, masks: Path, dest: Path, reading: Reading, exif: str) -> None:
    part_of = {id(look): part for part, found in split.items() for look in found}
    fresh = dest / f'.{MASKS}.part'
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    (fresh / '.ours').touch()  # what this command may remove when it is run again

    def write(look: Look) -> None:
        labels = as_labels(read_mask(masks / look.pair.mask), reading)
        turn = look.facts.turn
        if turn and (look.stored or (exif == 'stored' and look.size == look.facts.stored)):
            labels = turned(labels, turn)
        picture = Image.fromarray(labels)
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(reading.colours)] = reading.colours
        picture.putpalette(palette.ravel().tolist())
        path = fresh / part_of[id(look)] / f'{look.pair.key}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)

    map_with_progress(write, looks, 'writing masks')
    shutil.rmtree(dest / MASKS, ignore_errors=True)
    os.replace(fresh, dest / MASKS)


def _write_lists(dest: Path, split, about: dict, reading: Reading) -> None:
    (dest / 'test.json').unlink(missing_ok=True)  # of an earlier split
    lists = {
        f'{part}.json': as_json([(look.pair.image, f'{part}/{look.pair.key}.png')
                                 for look in found])
        for part, found in split.items()
    }  # fmt: skip
    lines = ''.join(
        f'{one.name} {" ".join(map(str, colour))}\n'
        for one, colour in zip(reading.classes, reading.colours, strict=True)
    )
    write_lists(dest, {**lists, 'classes.txt': lines, 'about.json': about_json(about)})


# ---- telling ----------------------------------------------------------------------------------


def _table(split: Dict[str, List[Look]], reading: Reading) -> str:
    """Classes with their share of the pixels, and in how many images of each split they are."""
    counts = [(part, counts_by_class(look, reading)) for part, found in split.items()
              for look in found]  # fmt: skip
    total = sum(sum(found.values()) for _, found in counts) or 1
    width = max(len('ignored'), *(len(one.name) for one in reading.classes))
    parts = list(split)
    lines = [f'{"no.":>4} {"class":{width}} {"pixels":>7}  images of '
             + ', '.join(f'{part} ({len(split[part])})' for part in parts)]  # fmt: skip
    names = [*enumerate(one.name for one in reading.classes), (IGNORE_INDEX, 'ignored')]
    for number, name in names:
        pixels = sum(found.get(number, 0) for _, found in counts)
        inside = ', '.join(
            str(sum(1 for p, found in counts if p == part and number in found)) for part in parts
        )
        if number != IGNORE_INDEX or pixels:
            lines.append(f'{number:4} {name:{width}} {100 * pixels / total:6.2f}%  {inside}')
    return '\n'.join(lines)


def _remarks(looks: List[Look], split, reading: Reading, exif: str) -> List[str]:
    remarks = []
    names = [one.name for one in reading.classes]
    inside = {part: set().union(*(classes_in(look, reading) for look in found))
              for part, found in split.items()}  # fmt: skip
    if not reading.nearest:
        for part, found in inside.items():
            absent = [name for i, name in enumerate(names) if i not in found]
            if absent:
                what = 'cannot be learnt' if part == 'train' else 'is not judged'
                remarks.append(f'{part}: no pixel of {shorten(absent)}, which {what}')
    empty = [look.pair.mask for look in looks if not classes_in(look, reading)]
    if empty and not reading.nearest:
        remarks.append(f'all of the mask is ignored: {shorten(empty)}')
    turned_ones = [look.pair.image for look in looks if look.stored]
    if turned_ones:
        remarks.append(
            f'turned as the EXIF data of the image say: the masks of {shorten(turned_ones)}'
        )
    unsure = [
        look.pair.image for look in looks
        if look.facts.turn in TURNS and not look.stored and look.facts.shown == look.facts.stored
    ]  # fmt: skip
    if unsure and exif == 'auto':
        remarks.append(
            f'EXIF data turn {shorten(unsure)}, and sizes do not tell whether the mask was drawn '
            'on the image as shown or as stored; taken as shown (--exif stored for the other)'
        )
    deep = [look.pair.image for look in looks if look.facts.depth > 8]
    if deep:
        remarks.append(
            'more than 8 bits a channel, of which the training reads the upper 8: '
            f'{shorten(deep)}; dark pictures are better scaled to 8 bits beforehand'
        )
    return remarks
