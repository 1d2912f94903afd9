"""Prepares your own images, in folders named after their classes."""

from pathlib import Path
from typing import Dict, List, Optional

from lspt_mm.converters.archives import link_or_copy
from lspt_mm.converters.splits import (
    Pairs,
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
    train: str = 'train',
    val: Optional[str] = None,
    test: str = 'test',
    val_share: Optional[float] = None,
    seed: int = 0,
    copy: bool = False,
    verify: bool = True,
    fail_on_duplicates: bool = False,
) -> str:
    """Write ``train.json``, ``val.json``, ``test.json`` and ``about.json`` to ``dest``.

    The classes are the folders in ``source/train``, sorted.

    Args:
        source (Path): Folder with the folders ``train``, ``val`` and ``test``.
        dest (Path): Folder of the lists and of links to the images, made if absent.
        train (str): Folder in ``source`` of the training images.
        val (str, optional): As ``train``. By default ``val``, if it exists and is not the test.
        test (str): As ``train``.
        val_share (float, optional): Draw val from train, this share of each class. By default
            a tenth where there is no folder ``val``. 0 validates on the training images, for
            classes of one image.
        seed (int): Of the drawing.
        copy (bool): Copy the folders rather than link to them.
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
    if val is None and val_share is None and 'val' not in (train, test):
        val = 'val' if (source / 'val').is_dir() else None
    folders = {'train': train, 'val': val, 'test': test}
    folders = {split: folder for split, folder in folders.items() if folder is not None}
    _check_folders(source, folders)

    classes = folders_in(source / train)
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
    kept = [
        dest / folder for folder in folders.values()
        if link_or_copy(source / folder, dest / folder, copy)
    ]  # fmt: skip
    checked = {part: pairs for part, pairs in found.items() if pairs or part != 'val'}
    problems += problems_of(checked, dest, len(classes), verify=verify)
    raise_if_any(str(source), problems, kept)
    doubles = duplicates(
        ((digest_of(dest / name), part, name, label)
         for part, pairs in found.items() for name, label in pairs), 'classes'
    )  # fmt: skip
    if fail_on_duplicates:
        raise_if_any(str(source), doubles)
    left_out = [f'{folder}: {skipped}' for folder in folders.values()
                if (skipped := list_images(source / folder).left_out())]  # fmt: skip
    if val is None and not share:
        found['val'], kind = found['train'], 'the training images'
    about = {'name': source.absolute().name, 'classes': classes, 'val': kind}
    counts = write_splits(dest, found, about)
    said = f'{about["name"]}: {counts} images of {len(classes)} classes in {dest}; val is {kind}'
    return '\n'.join([said, *(f'note: {remark}' for remark in [*left_out, *doubles])])


def _check_folders(source: Path, folders: Dict[str, str]) -> None:
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
            'folder for each split, with a folder for each class in it. Without a test of its '
            'own: --test val, and val is drawn from train'
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
