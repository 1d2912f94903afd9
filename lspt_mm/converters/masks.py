"""Prepare a folder of images and masks for segmentation training."""

import argparse
import os
import shutil
from collections import Counter
from numbers import Integral
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from lspt_mm.converters.archives import place
from lspt_mm.converters.mask_classes import named_classes, read_classes
from lspt_mm.converters.mask_files import image_facts, read_mask, turned
from lspt_mm.converters.mask_pairs import Pair, find_pairs
from lspt_mm.converters.mask_readers import LABELS, Reader, ScannedPair, choose_reader
from lspt_mm.converters.splits import (
    about_json,
    as_json,
    check_same_classes,
    check_same_lists,
    digest_of,
    drawing_order,
    duplicates,
    raise_if_any,
    write_lists,
)
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import map_with_progress
from lspt_mm.utils.images import IGNORE_INDEX, read_image
from lspt_mm.utils.overlay import draw_sheet, label_image
from lspt_mm.utils.split_files import IMAGES, MASKS
from lspt_mm.utils.text import shorten

OWNER = 'lspt_mm own_masks'
PREVIEW, CLASSES = 'preview.png', 'classes.txt'
#: Scanned pairs of each split.
Split = Dict[str, List[ScannedPair]]


class Outcome(NamedTuple):
    """Result of reading masks: about.json's content, a table of the classes, and remarks."""

    about: dict
    table: str
    remarks: List[str]


def add_mask_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for images, masks, the meaning of values, and the split."""
    parser.add_argument('--images', type=Path, required=True, help='folder of the images')
    parser.add_argument('--masks', type=Path, required=True, help='folder of the masks')
    parser.add_argument(
        '--classes', type=Path, metavar='FILE', help='names of the classes, a line each: name, '
        'index name, or name r g b; LabelMe, CVAT and Roboflow files; by default from the masks',
    )
    parser.add_argument(
        '--labels', choices=LABELS, help='meaning of the values of masks: indices of classes, '
        'colors, or binary (background 0, foreground one other value)',
    )
    parser.add_argument(
        '--ignore', action='append', default=[], metavar='VALUE', help='number, colour (r,g,b or '
        '#rrggbb) or class to ignore; may be repeated; a negative number as --ignore=-1',
    )
    parser.add_argument(
        '--mask-suffix', default='', metavar='TEXT',
        help="text after the image's name in a mask's, such as _mask (for a leading hyphen: "
        '--mask-suffix=-mask)',
    )
    parser.add_argument(
        '--image-suffix', default='', metavar='TEXT',
        help="text after the common name in an image's, such as _leftImg8bit",
    )
    parser.add_argument(
        '--exif', choices=('shown', 'stored'),
        help='whether masks were drawn on photos as shown or as stored, where EXIF data turn them',
    )
    parser.add_argument(
        '--skip-unpaired', action='store_true', help='leave out images and masks without a pair'
    )
    parser.add_argument(
        '--val-share', type=float, default=0.2, help='share of the images for validation (0.2)'
    )
    parser.add_argument('--test-share', type=float, default=0.0, help='share for a test (0)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the split and of a run')


def prepare_masks(
    images: Path,
    masks: Path,
    dest: Path,
    classes: Union[Path, Sequence[str], None] = None,
    labels: Optional[str] = None,
    ignore: Sequence[str] = (),
    image_suffix: str = '',
    mask_suffix: str = '',
    val_share: float = 0.2,
    test_share: float = 0.0,
    seed: int = 0,
    exif: Optional[str] = None,
    skip_unpaired: bool = False,
    copy: bool = False,
    overwrite: bool = False,
    fail_on_duplicates: bool = False,
    keep_lists: bool = False,
    confirm: Callable[[Outcome], bool] = lambda outcome: True,
) -> Optional[Outcome]:
    """Write ``images``, ``masks``, the lists, ``classes.txt`` and ``about.json`` to ``dest``.

    Masks are rewritten as palette PNGs of class numbers from 0, with 255 ignored. Images are
    linked to. ``preview.png``, a dozen images with their classes, is written first.

    Args:
        images (Path): Folder of the images. Folders ``train``, ``val`` and ``test`` in it are the
            split; missing ones are drawn from ``train``.
        masks (Path): Folder of the masks; same names and folders as the images.
        dest (Path): Folder to write, made if absent.
        classes (Path or list, optional): File of the classes (``mask_classes.read_classes``), or
            their names; by default they are those in the masks.
        labels (str, optional): 'indices' of classes, 'colors', or 'binary' (0 and one other value).
            By default the only reading that the masks allow.
        ignore (list): Integers, colours (``r,g,b`` or ``#rrggbb``) or names of classes whose
            pixels are ignored. 255 among indices is too, where the others are consecutive.
        image_suffix, mask_suffix (str): Text after the common part of the files' names.
        val_share, test_share (float): Share of the images that are val (at least one) and test.
        seed (int): Of the split.
        exif (str, optional): Orientation of masks whose photos have EXIF rotation: as 'shown' or
            as 'stored'; required if the size fits both.
        skip_unpaired (bool): Leave out images without masks and masks without images.
        copy (bool): Copy the images rather than link to them.
        overwrite (bool): Prepare a folder again even if its classes change; runs that were
            trained on it would then read other labels. A link to other images is replaced.
        fail_on_duplicates (bool): Refuse equal images in two splits or with two masks.
        keep_lists (bool): Refuse lists and masks that differ from those in ``dest``.
        confirm: Called after the preview; if it returns False, nothing more is written.

    Returns:
        What was prepared; None if ``confirm`` returned False.

    Raises:
        InputError: If anything is wrong; nothing is written then.
    """
    ignore = [ignore] if isinstance(ignore, (str, Integral)) else ignore
    ignore = [str(one) for one in ignore]
    _check_arguments(images, masks, dest, classes, labels, val_share, test_share, exif)
    pairs, problems, left_out = find_pairs(images, masks, image_suffix, mask_suffix, skip_unpaired)
    named = None
    if classes is not None:
        named = read_classes(classes) if isinstance(classes, Path) else named_classes(classes)
    scans = map_with_progress(
        lambda pair: _scan(pair, images, masks), pairs, 'reading images and masks'
    )
    problems += [scan.problem for scan in scans if scan.problem]
    sound = [scan for scan in scans if not scan.problem]
    problems += _wrong_sizes(sound, exif)
    reader = None
    try:
        reader = choose_reader(sound, named, labels, ignore) if sound else None
    except InputError as error:
        problems.append(str(error))
    raise_if_any(str(masks), problems)
    if not overwrite:
        check_same_classes(dest, [one.name for one in reader.classes])
    split, how = _split_of(scans, reader, val_share, test_share, seed)
    lists = {part: [(scan.pair.image, f'{part}/{scan.pair.key}.png') for scan in found]
             for part, found in split.items()}
    if keep_lists:
        check_same_lists(dest, lists)
    doubles = duplicates(
        ((scan.digest, part, scan.pair.image, scan.mask_digest)
         for part, found in split.items() for scan in found), 'masks'
    )
    if fail_on_duplicates:
        raise_if_any(str(images), doubles)
    pixels = reader.total(split['train'])
    about = {
        'name': dest.absolute().name,
        'classes': [one.name for one in reader.classes],
        'palette': [list(colour) for colour in reader.colours],
        'images': {name: len(part) for name, part in split.items()},
        'pixels': [pixels[number] for number in range(len(reader.classes))],
        'split': how,
        'masks': reader.labels,
        'written_by': OWNER,
    }
    remarks = [*left_out, *_remarks(split, reader, ignore), *doubles]
    found = Outcome(about, _table(split, reader), remarks)
    dest.mkdir(parents=True, exist_ok=True)
    if not keep_lists:  # it is there
        _draw_preview(dest / PREVIEW, split, reader, images, exif)
    if not confirm(found):
        return None
    place(images, dest / IMAGES, copy, overwrite)
    _write_masks(split, dest, reader, exif, keep_lists)
    _write_lists(dest, lists, about, reader)
    return found


def _check_arguments(images, masks, dest, classes, labels, val_share, test_share, exif) -> None:
    for name, value, choices in (('--labels', labels, LABELS), ('--exif', exif,
                                 ('shown', 'stored'))):
        if value not in (None, *choices):
            raise InputError(f'{name} {value}: expected one of {", ".join(choices)}')
    if not 0 < val_share < 1 or not 0 <= test_share < 1 or val_share + test_share >= 1:
        raise InputError(
            f'--val-share {val_share}, --test-share {test_share}: expected shares above 0 (test: '
            'or 0) that leave something to train on'
        )
    if dest.exists() and not dest.is_dir():
        raise InputError(f'--to {dest}: is a file, expected a folder')
    if isinstance(classes, Path) and not _is_ours(dest) and classes.resolve() == (
        dest.resolve() / CLASSES
    ):
        raise InputError(
            f'--classes {classes}: this command writes a file of that name; rename it, or name '
            'another folder: --to'
        )
    for what, folder in (('images', images), ('masks', masks)):
        inside = dest.resolve()
        if folder.is_dir() and (folder.resolve() == inside or folder.resolve() in inside.parents):
            raise InputError(f'{dest} lies in the {what} {folder}: name a folder outside it')
    if (dest / MASKS).exists() and not _is_ours(dest):
        raise InputError(
            f'{dest}: has a folder {MASKS} that was not written by this command; name another'
        )


def _is_ours(dest: Path) -> bool:
    try:
        return OWNER in (dest / 'about.json').read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError):
        return (dest / MASKS / '.ours').is_file()


# ---- scanning ----------------------------------------------------------------------------------


def _scan(pair: Pair, images: Path, masks: Path) -> ScannedPair:
    found = ScannedPair(pair, masks / pair.mask)
    try:
        found.facts = image_facts(images / pair.image)
        found.digest = digest_of(images / pair.image)
        found.take(read_mask(found.mask))
    except InputError as error:
        found.problem = str(error)
    return found


def _wrong_sizes(scans: List[ScannedPair], exif: Optional[str]) -> List[str]:
    wrong = [
        f'{scan.pair.mask} ({_by(scan.size)}, its image {_by(scan.facts.shown)})'
        for scan in scans if scan.size not in (scan.facts.shown, scan.facts.stored)
    ]
    problems = [f"sizes differ from the images': {shorten(wrong)}"] if wrong else []
    unsure = [
        scan.pair.image for scan in scans
        if scan.facts.turn and scan.facts.shown == scan.facts.stored
    ]
    if unsure and exif is None:
        problems.append(
            f'EXIF data rotate {shorten(unsure)}, and the sizes fit both orientations: were the '
            'masks drawn on the photos as viewers show them (--exif shown) or as stored (--exif '
            'stored)?'
        )
    return problems


def _by(size: tuple) -> str:
    return f'{size[1]}x{size[0]}'


# ---- the split --------------------------------------------------------------------------------


def _split_of(
    scans: List[ScannedPair], reader: Reader, val_share: float, test_share: float, seed: int
) -> Tuple[Split, str]:
    """Scanned pairs of train, val and perhaps test, and where the split comes from."""
    split: Split = {'train': scans}
    inside = [scan for scan in scans if scan.pair.split]
    if inside:
        outside = [scan.pair.image for scan in scans if not scan.pair.split]
        split = {part: [scan for scan in inside if scan.pair.split == part]
                 for part in ('train', 'val', 'test')}
        if outside or not split['train']:
            raise InputError(
                f'{inside[0].pair.image} lies in a folder that names a split, '
                + (f'{shorten(outside)} in none; ' if outside else 'and none in train; ')
                + 'expected all in folders train, val and test (val may be missing), or none'
            )
        split = {part: found for part, found in split.items() if found}
    elif alike := [scan for scan in scans if scan.pair.looks_split]:
        raise InputError(
            f'{shorten(scan.pair.image for scan in alike)}: in folders that look like a split; '
            'name folders of splits train, val and test, directly below the images and masks'
        )
    drawn = {'val': val_share, 'test': test_share}
    drawn = {part: share for part, share in drawn.items() if share and part not in split}
    if len(split['train']) < 1 + len(drawn):
        raise InputError(
            f'{len(split["train"])} images with masks: too few to divide into train and '
            + ' and '.join(drawn)
        )
    total = len(split['train'])
    # sha256 of seed and name: the same on every machine, in any order of files.
    order = sorted(split['train'], key=lambda scan: drawing_order(seed)((scan.pair.key, 0)))
    for part, share in drawn.items():
        split[part] = _drawn(order, min(max(1, round(share * total)), len(order) - 1), reader)
        taken = {scan.pair.key for scan in split[part]}
        order = [scan for scan in order if scan.pair.key not in taken]
    split['train'] = order
    how = f'{" and ".join(drawn)} ours (seed {seed})' if drawn else ''
    names = ('train', 'val', 'test')
    split = {part: sorted(split[part], key=lambda scan: scan.pair.key)
             for part in names if part in split}
    return split, ', '.join(filter(None, ('folders' if inside else '', how)))


def _drawn(order: List[ScannedPair], wanted: int, reader: Reader) -> List[ScannedPair]:
    """The first ones of ``order`` that leave each class an image; if needed, others too."""
    left = Counter(label for scan in order for label in reader.classes_in(scan))
    chosen = []
    for scan in order:
        inside = reader.classes_in(scan)
        if len(chosen) < wanted and inside and all(left[label] > 1 for label in inside):
            chosen.append(scan)
            left.subtract(inside)
    keys = {scan.pair.key for scan in chosen}
    rest = [scan for scan in order if scan.pair.key not in keys]
    return chosen + rest[: wanted - len(chosen)]


# ---- writing ----------------------------------------------------------------------------------


def _labels_of(scan: ScannedPair, reader: Reader, exif: Optional[str]) -> np.ndarray:
    """Class numbers (H, W) of a mask, as its image is shown."""
    labels, facts = reader.read(scan.mask), scan.facts
    as_stored = scan.size != facts.shown or (exif == 'stored' and scan.size == facts.stored)
    return turned(labels, facts.turn) if facts.turn and as_stored else labels


def _draw_preview(path: Path, split: Split, reader: Reader, images: Path, exif) -> None:
    scans = [(part, scan) for part, found in split.items() for scan in found]
    chosen = [scans[i] for i in np.linspace(0, len(scans) - 1, min(12, len(scans))).astype(int)]
    tiles = [
        (f'{part}: {Path(scan.pair.image).name}',
         read_image(images / scan.pair.image),
         _labels_of(scan, reader, exif))
        for part, scan in chosen
    ]
    counts = reader.total(scan for _, scan in scans)
    rows = [
        (one.name, tuple(colour), counts[i] / sum(counts.values()))
        for i, (one, colour) in enumerate(zip(reader.classes, reader.colours, strict=True))
    ]
    draw_sheet(tiles, rows).save(path)


def _write_masks(
    split: Split, dest: Path, reader: Reader, exif: Optional[str], keep: bool
) -> None:
    """Write the masks of all splits; with ``keep``, InputError if they differ from those there."""
    fresh = dest / f'.{MASKS}.part'
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    (fresh / '.ours').touch()  # what this command may remove when it is run again

    def write(item: Tuple[str, ScannedPair]) -> Optional[str]:
        """The mask's name, if it differs from the one to keep."""
        part, scan = item
        name, labels = f'{part}/{scan.pair.key}.png', _labels_of(scan, reader, exif)
        (fresh / name).parent.mkdir(parents=True, exist_ok=True)
        label_image(labels, reader.colours).save(fresh / name)
        before = dest / MASKS / name
        same = not (keep and before.is_file()) or np.array_equal(read_mask(before).numbers, labels)
        return None if same else scan.pair.mask

    changed = [name for name in map_with_progress(
        write, [(part, scan) for part, found in split.items() for scan in found], 'writing masks'
    ) if name]
    if changed:
        shutil.rmtree(fresh)
        raise InputError(
            f'{dest / MASKS}: masks differ from those of the run, such as {shorten(changed, 2)}; '
            'keep masks, labels, ignore and exif as they were, or start a new run in another folder'
        )
    for part in ('train', 'val', 'test'):  # those of an earlier split do not fit new masks
        (dest / f'{part}.json').unlink(missing_ok=True)
    shutil.rmtree(dest / MASKS, ignore_errors=True)
    os.replace(fresh, dest / MASKS)


def _write_lists(dest: Path, lists: Dict[str, list], about: dict, reader: Reader) -> None:
    texts = {f'{part}.json': as_json(pairs) for part, pairs in lists.items()}
    lines = ''.join(
        f'{one.name} {" ".join(map(str, colour))}\n'
        for one, colour in zip(reader.classes, reader.colours, strict=True)
    )
    write_lists(dest, {**texts, CLASSES: lines, 'about.json': about_json(about)})


# ---- reporting ----------------------------------------------------------------------------------


def _table(split: Split, reader: Reader) -> str:
    """Classes with their share of the pixels, and in how many images of each split they are."""
    counts = {part: [reader.counts(scan) for scan in found] for part, found in split.items()}
    every = [one for found in counts.values() for one in found]
    total = sum(sum(one.values()) for one in every) or 1
    void = f'ignored ({", ".join(reader.void)})'
    rows = [*enumerate(one.name for one in reader.classes), (IGNORE_INDEX, void)]
    width = max(len(name) for _, name in rows)
    sizes = ', '.join(f'{part} ({len(found)})' for part, found in split.items())
    lines = [f'{"no.":>4} {"class":{width}} {"pixels":>7}  images of {sizes}']
    for number, name in rows:
        pixels = sum(one.get(number, 0) for one in every)
        inside = ', '.join(str(sum(number in one for one in part)) for part in counts.values())
        if number != IGNORE_INDEX or pixels:
            lines.append(f'{number:4} {name:{width}} {100 * pixels / total:6.2f}%  {inside}')
    return '\n'.join(lines)


def _remarks(split: Split, reader: Reader, ignore: Sequence[str]) -> List[str]:
    remarks = []
    scans = [scan for found in split.values() for scan in found]
    counts = [reader.counts(scan) for scan in scans]
    pixels = sum(sum(one.values()) for one in counts)
    void = sum(one.get(IGNORE_INDEX, 0) for one in counts)
    if void > 0.1 * pixels:
        remarks.append(f'{100 * void / pixels:.0f} % of the pixels are ignored')
    empty = [scan.pair.mask for scan, one in zip(scans, counts, strict=True)
             if set(one) == {IGNORE_INDEX}]
    if empty:
        remarks.append(f'all of the mask is ignored: {shorten(empty)}')
    names = [one.name for one in reader.classes]
    images = Counter(label for one in counts for label in one)
    rare = [f'{name} ({images[i]})' for i, name in enumerate(names) if 0 < images[i] < 3]
    if rare and len(scans) > 3:
        remarks.append(f'in fewer than three images: {shorten(rare)}')
    of_class = sum(map(Counter, counts), Counter())
    small = [name for i, name in enumerate(names) if 0 < of_class[i] < 0.01 * pixels]
    if small:
        remarks.append(
            f'less than 1 % of the pixels: {shorten(small)}; training gives rare classes a larger '
            'weight, and balance=sampling draws crops around them'
        )
    for part, found in split.items():
        inside = set().union(*(reader.classes_in(scan) for scan in found))
        absent = [name for i, name in enumerate(names) if i not in inside]
        if absent:
            what = 'cannot be learned' if part == 'train' else 'scores 0 there if it is predicted'
            remarks.append(f'{part}: no pixel of {shorten(absent)}, which {what}')
    unused = [text for text in ignore if not reader.has(text, scans)]
    if unused:
        remarks.append(f'--ignore {shorten(unused)}: no mask has it')
    sideways = [scan.pair.image for scan in scans if scan.size != scan.facts.shown]
    if sideways:
        remarks.append(
            f'masks rotated by the EXIF data of their images: {shorten(sideways)}'
        )
    deep = [scan.pair.image for scan in scans if scan.facts.bits > 8]
    if deep:
        remarks.append(
            'more than 8 bits a channel, of which the training reads the upper 8: '
            f'{shorten(deep)}; dark pictures are better scaled to 8 bits beforehand'
        )
    return remarks
