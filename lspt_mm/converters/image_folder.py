"""Prepares your own images, in folders named after their classes."""

import unicodedata
from pathlib import Path
from typing import Dict, List, Optional

from lspt_mm.converters.archives import place
from lspt_mm.converters.mask_pairs import SPLIT_FOLDERS
from lspt_mm.converters.splits import (
    Pairs,
    check_same_classes,
    digest_of,
    duplicates,
    images_in,
    problems_of,
    raise_if_any,
    random_share,
    write_splits,
)
from lspt_mm.datasets.image_list import is_inside
from lspt_mm.errors import InputError
from lspt_mm.utils.images import folders_in, list_images
from lspt_mm.utils.text import shorten

#: Of each class's training images, those that are val where there is no folder of them.
VAL_SHARE = 0.1


def prepare_image_folder(
    source: Path,
    dest: Path,
    train: Optional[str] = None,
    val: Optional[str] = None,
    test: Optional[str] = None,
    val_share: Optional[float] = None,
    seed: int = 0,
    copy: bool = False,
    overwrite: bool = False,
    verify: bool = True,
    fail_on_duplicates: bool = False,
) -> str:
    """Write ``train.json``, ``val.json``, ``test.json`` and ``about.json`` to ``dest``.

    The classes are the folders in ``source/train``, sorted.

    Args:
        source (Path): Folder with the folders ``train``, ``val`` and ``test``.
        dest (Path): Folder of the lists and of links to the images, made if absent.
        train, val, test (str, optional): Folders in ``source``. By default those of these names,
            or of ``training``, ``valid``, ``validation``, ``testing``; val may be missing.
        val_share (float, optional): Draw val from train, this share of each class. By default
            a tenth where there is no folder ``val``. 0 validates on the training images, for
            classes of one image.
        seed (int): Of the drawing.
        copy (bool): Copy the folders rather than link to them.
        overwrite (bool): Prepare a folder anew although its classes become others, which runs
            that were trained on it do not know.
        verify (bool): Decode each image.
        fail_on_duplicates (bool): Refuse equal images in two splits or classes.

    Returns:
        str: What was written, in a line, and remarks below it.

    Raises:
        InputError: For everything that is missing or wrong; no list is written then.
    """
    if val is not None and val_share is not None:
        raise InputError(f'--val {val} and --val-share {val_share}: expected one of them')
    if val_share is not None and not 0 <= val_share < 1:
        raise InputError(f'--val-share {val_share}: expected a number from 0 to below 1')
    found = _split_folders(source)
    train, test = train or found.get('train', 'train'), test or found.get('test', 'test')
    if val is None and val_share is None and found.get('val') not in (train, test):
        val = found.get('val')
    folders = {'train': train, 'val': val, 'test': test}
    folders = {split: folder for split, folder in folders.items() if folder is not None}
    _check_folders(source, folders, dest)

    classes = folders_in(source / train)
    _check_classes(source / train, classes)
    if not overwrite:
        check_same_classes(dest, classes)
    found, problems = _labelled_images(source, folders, classes)
    kind = 'official'
    if val is None:
        share = VAL_SHARE if val_share is None else val_share
        drawn: Pairs = []
        if share:
            found['train'], drawn = random_share(found['train'], share, seed)
            kind = f'ours (seed {seed})'
            if not drawn:
                problems.append(
                    'every class has one training image, so that none is left for val: '
                    '--val-share 0 validates on the training images'
                )
        found = {'train': found['train'], 'val': drawn, 'test': found['test']}
    for folder in folders.values():
        place(source / folder, dest / folder, copy)
    checked = {part: pairs for part, pairs in found.items() if pairs or part != 'val'}
    problems += problems_of(checked, dest, len(classes), verify=verify)
    raise_if_any(str(source), problems)
    doubles = duplicates(
        ((digest_of(dest / name), part, name, label)
         for part, pairs in found.items() for name, label in pairs), 'classes'
    )  # fmt: skip
    if fail_on_duplicates:
        raise_if_any(str(source), doubles)
    left_out = [f'{folder}: {skipped}' for folder in folders.values()
                if (skipped := list_images(source / folder).left_out())]  # fmt: skip
    notes = [*left_out, *_beside(source, folders), *_absent(found, classes), *doubles]
    if val is None and not share:
        found['val'], kind = found['train'], 'the training images'
    about = {'name': source.absolute().name, 'classes': classes, 'val': kind}
    counts = write_splits(dest, found, about)
    said = f'{about["name"]}: {counts} images of {len(classes)} classes in {dest}; val is {kind}'
    return '\n'.join([said, *(f'note: {remark}' for remark in notes)])


def _split_folders(source: Path) -> Dict[str, str]:
    """Split to the folder that has its name, or another name of it."""
    there = folders_in(source) if source.is_dir() else []
    return {SPLIT_FOLDERS[name.lower()]: name for name in reversed(there)
            if name.lower() in SPLIT_FOLDERS}  # fmt: skip


def _check_classes(folder: Path, classes: List[str]) -> None:
    if len(classes) == 1:
        raise InputError(
            f'{folder}: has one folder ({classes[0]}); expected one for each of several classes'
        )
    alike: Dict[str, List[str]] = {}
    for name in classes:
        alike.setdefault(unicodedata.normalize('NFC', name).strip(), []).append(name)
    twice = [repr(name) for names in alike.values() if len(names) > 1 for name in names]
    if twice:
        raise InputError(
            f'{folder}: folders whose names look alike: {shorten(twice)}; is that one class?'
        )


def _beside(source: Path, folders: Dict[str, str]) -> List[str]:
    """A line for each folder that has images outside the folders of classes."""
    lines = []
    for folder in folders.values():
        found = [path for path in list_images(source / folder).images
                 if path.parent == source / folder]  # fmt: skip
        if found:
            lines.append(f'{folder}: {len(found)} images in no folder of a class are left out')
    return lines


def _absent(found: Dict[str, Pairs], classes: List[str]) -> List[str]:
    """A line for each split that lacks classes; those are never judged in it."""
    lines = []
    for part, pairs in found.items():
        lacking = sorted(set(range(len(classes))) - {label for _, label in pairs})
        if pairs and lacking:
            lines.append(f'{part}: no image of {shorten(classes[label] for label in lacking)}')
    return lines


def _check_folders(source: Path, folders: Dict[str, str], dest: Path) -> None:
    inside = dest.resolve()
    if source.is_dir() and any(
        (source / folder).resolve() in (inside, *inside.parents) for folder in folders.values()
    ):
        raise InputError(f'--to {dest} lies in a folder of images: name a folder outside it')
    for split, folder in folders.items():
        if not is_inside(folder) or folder in ('', '.'):
            raise InputError(f'--{split} {folder!r}: expected the name of a folder in {source}')
    missing = [
        f'{folder} (--{split})' for split, folder in folders.items()
        if not (source / folder).is_dir()
    ]  # fmt: skip
    if missing:
        there = ', '.join(folders_in(source)[:10]) if source.is_dir() else 'nothing'
        raise InputError(
            f'{source} lacks {", ".join(missing)}; it has {there or "no folder"}. Expected a '
            'folder for each split, with a folder for each class in it'
            + ('. Without a test of its own: --test val, and val is drawn from train'
               if (source / 'val').is_dir() and folders['test'] != 'val' else '')
        )


def _labelled_images(source: Path, folders: Dict[str, str], classes: List[str]):
    """Images of each folder with labels, and what is wrong with the folders of the classes."""
    label_of = {name: label for label, name in enumerate(classes)}
    found: Dict[str, Pairs] = {}
    problems = []
    for split, folder in folders.items():
        foreign = [name for name in folders_in(source / folder) if name not in label_of]
        if foreign:
            problems.append(f'{folder}: classes {shorten(foreign)}, which {folders["train"]} lacks')
        images = [(name, name.split('/')[0]) for name in images_in(source / folder)]
        found[split] = [
            (f'{folder}/{name}', label_of[c]) for name, c in images if c in label_of
        ]  # fmt: skip
    empty = sorted(set(range(len(classes))) - {label for _, label in found['train']})
    if empty:
        names = shorten(classes[label] for label in empty)
        problems.append(f'{folders["train"]}: no image in {names}')
    return found, problems
