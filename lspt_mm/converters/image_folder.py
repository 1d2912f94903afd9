"""Prepare your own images: in folders named after their classes, or with a table of labels."""

import argparse
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

from lspt_mm.converters.archives import place
from lspt_mm.converters.label_file import read_label_file
from lspt_mm.converters.mask_pairs import SPLIT_FOLDERS
from lspt_mm.converters.splits import (
    PARTS,
    Pairs,
    alike,
    check_same_classes,
    check_same_lists,
    digest_of,
    duplicates,
    images_in,
    labels_in,
    problems_of,
    raise_if_any,
    random_share,
    write_splits,
)
from lspt_mm.errors import InputError
from lspt_mm.utils.images import folders_in, list_images
from lspt_mm.utils.text import shorten

#: Share of each class's training images that become val where there is no folder of val.
VAL_SHARE = 0.1
#: Name of the link to images without folders of splits.
IMAGES = 'images'


class _Found(NamedTuple):
    """Images found in a folder.

    ``folders`` maps folders of the prepared data to folders below the source. Paths in ``splits``
    begin with the former. ``problems`` and ``notes`` are sentences.
    """

    folders: Dict[str, str]
    classes: List[str]
    splits: Dict[str, Pairs]
    problems: List[str]
    notes: List[str]
    multi_label: bool = False


def add_label_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for a table of labels and for the share of test images."""
    parser.add_argument(
        '--labels', type=Path, metavar='FILE', help='CSV of labels: image,label (several between '
        '| or ;), or image and a column of 0 and 1 for each class; a column split may say train, '
        'val or test',
    )
    parser.add_argument(
        '--test-share', type=float, default=0.0, help='share of each class for a test, without one '
        '(0)',
    )


def prepare_image_folder(
    source: Path,
    dest: Path,
    val_share: Optional[float] = None,
    seed: int = 0,
    copy: bool = False,
    overwrite: bool = False,
    fail_on_duplicates: bool = False,
    labels: Optional[Path] = None,
    test_share: float = 0.0,
    usual_share: float = VAL_SHARE,
    keep_lists: bool = False,
) -> str:
    """Write ``train.json``, ``val.json``, perhaps ``test.json``, and ``about.json`` to ``dest``.

    The classes are the folders in ``source/train``, or in ``source`` if it has no folders of
    splits, sorted; or those of ``labels``.

    Args:
        source (Path): Folder with folders ``train`` (or ``training``) and perhaps ``val``
            (``valid``, ``validation``) and ``test`` (``testing``); or with a folder for each
            class; or, with ``labels``, any folder of images.
        dest (Path): Folder of the lists and of links to the images, made if absent.
        val_share (float, optional): Draw val from train, this share of each class, even if there
            is a val. 0 validates on the training images, for classes of one image.
        seed (int): Of the drawing.
        copy (bool): Copy the folders rather than link to them.
        overwrite (bool): Prepare a folder again even if its classes change; runs that were
            trained on it would then read other labels. Links to other folders are replaced.
        fail_on_duplicates (bool): Refuse equal images in two splits or classes.
        labels (Path, optional): Table of labels
            (:func:`~lspt_mm.converters.label_file.read_label_file`).
        test_share (float): Share of each class that is test, where there is none; 0 is no test.
        usual_share (float): As ``val_share``, where there is no val.
        keep_lists (bool): Refuse lists that differ from those in ``dest``.

    Returns:
        str: A line about what was written, and remarks below it.

    Raises:
        InputError: If anything is missing or wrong; no list is written then.
    """
    _check_shares(val_share, test_share, usual_share)
    if not source.is_dir():
        raise InputError(f'{source}: no such folder')
    if labels is not None:
        found = _of_table(source, labels)
    elif _is_divided(source):
        found = _of_splits(source, val_share)
    else:
        found = _of_classes(source)
    _check_outside(source, found.folders, dest)
    if not overwrite:
        check_same_classes(dest, found.classes)
    splits, kinds, problems = _divided(found, val_share, usual_share, test_share, seed)
    if keep_lists:
        check_same_lists(dest, {**splits, 'val': splits['val'] or splits['train']})
    for name, folder in found.folders.items():
        place(source / folder, dest / name, copy, overwrite)
    checked = {part: pairs for part, pairs in splits.items()
               if pairs or part != 'val' or kinds['val'] == 'official'}
    problems = [*found.problems, *problems]
    problems += problems_of(checked, dest, len(found.classes))
    raise_if_any(str(source), problems)
    doubles = duplicates(
        ((digest_of(dest / name), part, name, label)
         for part, pairs in splits.items() for name, label in pairs), 'classes'
    )
    if fail_on_duplicates:
        raise_if_any(str(source), doubles)
    notes = [*found.notes, *_absent(splits, found.classes, found.multi_label), *doubles]
    if not splits['val']:
        splits['val'] = splits['train']
    about = {
        'name': source.absolute().name, 'classes': found.classes, 'val': kinds['val'],
        'multi_label': found.multi_label, 'images': {part: len(splits[part]) for part in splits},
    }
    (dest / 'test.json').unlink(missing_ok=True)  # of an earlier split
    counts = write_splits(dest, splits, about)
    said = f'{about["name"]}: {counts} images of {len(found.classes)} classes in {dest}; '
    said += '; '.join(f'{part} is {kind}' for part, kind in kinds.items())
    if found.multi_label:
        each = len(labels_in(splits['train'])) / len(splits['train'])
        said += f'; multi-label, {each:.1f} labels a training image'
    elif labels is not None:
        said += '; single-label'
    return '\n'.join([said, *(f'note: {remark}' for remark in notes)])


def _check_shares(val_share, test_share, usual_share) -> None:
    share = usual_share if val_share is None else val_share
    for option, value in (('--val-share', share), ('--test-share', test_share)):
        if not 0 <= value < 1:
            raise InputError(f'{option} {value}: expected a number from 0 to below 1')
    if share + test_share >= 1:
        raise InputError(
            f'--val-share {share} and --test-share {test_share}: expected less than 1 together, as '
            'the rest is for training'
        )


def _divided(found: _Found, val_share, usual_share, test_share, seed):
    """Train, val and perhaps test; the origin of val and of a drawn test; problems."""
    splits, problems = dict(found.splits), []
    kinds = {'val': 'official'}
    if 'val' not in splits or val_share is not None:
        share = usual_share if val_share is None else val_share
        splits['val'], kinds['val'] = [], 'the training images'
        if share:
            splits['train'], splits['val'] = random_share(splits['train'], share, seed)
            kinds['val'] = f'ours (seed {seed})'
            if not splits['val']:
                problems.append(
                    'every class has one training image, so that none is left for val: '
                    '--val-share 0 validates on the training images'
                )
        drawn = share
    else:
        drawn = 0.0
    if 'test' in splits and test_share:
        raise InputError(
            f'--test-share {test_share}: the data have test images of their own; leave it out'
        )
    if test_share:
        share = test_share / (1 - drawn)
        splits['train'], splits['test'] = random_share(splits['train'], share, seed)
        kinds['test'] = f'ours (seed {seed})'
    return {part: splits[part] for part in PARTS if part in splits}, kinds, problems


# ---- the three layouts -------------------------------------------------------------------------


def _is_divided(source: Path) -> bool:
    """Whether the folders are splits: a single such name may also be that of a class."""
    there = folders_in(source)
    splits = _split_folders(source).values()
    return not there or len(splits) == len(there) or any(
        folders_in(source / folder) for folder in splits
    )


def _of_splits(source: Path, val_share) -> _Found:
    there = _split_folders(source)
    for part in there:
        names = [n for n in folders_in(source) if SPLIT_FOLDERS.get(n.lower()) == part]
        if len(names) > 1:
            raise InputError(
                f'{source}: {" and ".join(names)} are folders of {part}; move their images into '
                'one'
            )
    if 'train' not in there:
        found = ', '.join(folders_in(source)[:10])
        raise InputError(
            f'{source} lacks train; it has {found or "no folder"}. Expected folders train, and '
            'perhaps val and test (rename yours), with a folder for each class in each; or a '
            'folder for each class alone; or images and a table of their labels (--labels)'
        )
    folders = {part: there[part] for part in PARTS
               if part in there and (part != 'val' or val_share is None)}
    classes = folders_in(source / folders['train'])
    _check_classes(source / folders['train'], classes)
    splits, problems = _labelled_images(source, folders, classes)
    places = {folder: folder for folder in folders.values()}
    notes = _left_out(source, folders)
    others = [name for name in folders_in(source) if name.lower() not in SPLIT_FOLDERS]
    if others:
        notes.append(f'left out, no folder of a split: {shorten(others)}')
    return _Found(places, classes, splits, problems, notes)


def _of_classes(source: Path) -> _Found:
    classes = folders_in(source)
    _check_classes(source, classes)
    splits, problems = _labelled_images(source, {'train': '.'}, classes)
    return _Found(
        {IMAGES: '.'}, classes, _below_images(splits), problems, _left_out(source, {'train': '.'})
    )


def _of_table(source: Path, labels: Path) -> _Found:
    told = read_label_file(labels, source)
    return _Found({IMAGES: '.'}, told.classes, _below_images(told.splits), [], told.notes,
                  told.multi_label)


def _below_images(splits: Dict[str, Pairs]) -> Dict[str, Pairs]:
    return {part: [(f'{IMAGES}/{name}', label) for name, label in pairs]
            for part, pairs in splits.items()}


def _split_folders(source: Path) -> Dict[str, str]:
    """Split to the folder that has its name, or another name of it."""
    there = folders_in(source)
    return {SPLIT_FOLDERS[name.lower()]: name for name in reversed(there)
            if name.lower() in SPLIT_FOLDERS}


def _check_classes(folder: Path, classes: List[str]) -> None:
    if len(classes) == 1:
        raise InputError(
            f'{folder}: has one folder ({classes[0]}); expected one for each of several classes'
        )
    twice = alike(classes)
    if twice:
        raise InputError(
            f'{folder}: folders whose names look alike: {shorten(twice)}; is that one class?'
        )


def _left_out(source: Path, folders: Dict[str, str]) -> List[str]:
    """Lines on files that are not images, and on images outside the folders of classes."""
    lines = [f'{_shown(source, folder)}: {skipped}' for folder in folders.values()
             if (skipped := list_images(source / folder).left_out())]
    for folder in folders.values():
        found = [path for path in list_images(source / folder).images
                 if path.parent == source / folder]
        if found:
            where = _shown(source, folder)
            lines.append(f'{where}: {len(found)} images in no folder of a class are left out')
    return lines


def _absent(found: Dict[str, Pairs], classes: List[str], multi_label: bool) -> List[str]:
    """A line for each split that lacks classes."""
    lines = []
    for part, pairs in found.items():
        lacking = sorted(set(range(len(classes))) - set(labels_in(pairs)))
        # As in mmpretrain's metrics and scikit-learn's.
        effect = '; in its macro F1 and mAP they count as 0' if multi_label else ''
        if pairs and lacking:
            names = shorten(classes[label] for label in lacking)
            lines.append(f'{part}: no image of {names}{effect if part != "train" else ""}')
    return lines


def _check_outside(source: Path, folders: Dict[str, str], dest: Path) -> None:
    inside = dest.resolve()
    if any((source / folder).resolve() in (inside, *inside.parents) for folder in folders.values()):
        raise InputError(f'{dest} lies in a folder of images: name a folder outside it')


def _labelled_images(source: Path, folders: Dict[str, str], classes: List[str]):
    """Images of each folder with labels, and problems of the folders of the classes."""
    label_of = {name: label for label, name in enumerate(classes)}
    found: Dict[str, Pairs] = {}
    problems = []
    for split, folder in folders.items():
        foreign = [name for name in folders_in(source / folder) if name not in label_of]
        if foreign:
            problems.append(f'{folder}: classes {shorten(foreign)}, which {folders["train"]} lacks')
        images = [(name, name.split('/')[0]) for name in images_in(source / folder)]
        found[split] = [
            (name if folder == '.' else f'{folder}/{name}', label_of[c])
            for name, c in images if c in label_of
        ]
    empty = sorted(set(range(len(classes))) - set(labels_in(found['train'])))
    if empty:
        names = shorten(classes[label] for label in empty)
        problems.append(f'{_shown(source, folders["train"])}: no image in {names}')
    return found, problems


def _shown(source: Path, folder: str) -> str:
    return source.name if folder == '.' else folder
