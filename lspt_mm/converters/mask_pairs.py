"""Which mask belongs to which image, in folders as people have them."""

import os
from collections import Counter
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from lspt_mm.errors import InputError
from lspt_mm.utils.images import IMAGE_SUFFIXES
from lspt_mm.utils.text import shorten

MASK_SUFFIXES = ('.png', '.tif', '.tiff', '.bmp', '.gif', '.webp', '.pgm', '.jpg', '.jpeg')
#: Names of folders that are a split already.
SPLIT_FOLDERS = {
    'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val',
    'test': 'test', 'testing': 'test',
}  # fmt: skip


class Pair(NamedTuple):
    """An image and its mask, relative to their folders; ``key`` is what they have in common."""

    key: str
    image: str
    mask: str


def find_pairs(
    images: Path,
    masks: Path,
    image_suffix: str = '',
    mask_suffix: str = '',
    skip_unpaired: bool = False,
) -> Tuple[List[Pair], List[str]]:
    """Pairs of the same name, sorted, and what is wrong with the names, a sentence each.

    Args:
        images: Folder of the images; folders in it count.
        masks: Folder of the masks, laid out alike; it may be the same one.
        image_suffix, mask_suffix: What stands behind the common part of the names.
        skip_unpaired: Leave out what has no counterpart.

    Raises:
        InputError: If a folder is missing, or nothing fits together.
    """
    for option, folder in (('--images', images), ('--masks', masks)):
        if not folder.is_dir():
            raise InputError(f'{option} {folder}: no such folder')
    same = images.resolve() == masks.resolve()
    if same and mask_suffix == image_suffix:
        # A photograph and a drawing of one name can only be told apart by their formats.
        found = _listed(images, ('.jpg', '.jpeg')), _listed(masks, ('.png',))
    else:
        found = _listed(images, IMAGE_SUFFIXES), _listed(masks, MASK_SUFFIXES)
    by_image, problems = _keys(found[0], image_suffix, images, mask_suffix if same else '')
    by_mask, more = _keys(found[1], mask_suffix, masks, image_suffix if same else '')
    problems += more
    both = sorted(by_image.keys() & by_mask.keys())
    if not both:
        raise InputError(_nothing_fits(images, masks, by_image, by_mask, problems))
    alone = [by_image[key] for key in sorted(by_image.keys() - by_mask.keys())]
    if alone and not skip_unpaired:
        problems.append(
            f'{images}: no mask for {shorten(alone)}; to leave such images out: --skip-unpaired'
        )
    alone = [by_mask[key] for key in sorted(by_mask.keys() - by_image.keys())]
    if alone and not skip_unpaired:
        problems.append(
            f'{masks}: no image for {shorten(alone)}; to leave such masks out: --skip-unpaired'
        )
    return [Pair(key, by_image[key], by_mask[key]) for key in both], problems


def _listed(folder: Path, suffixes: Tuple[str, ...]) -> List[str]:
    found = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if name[0] != '.')
        inside = Path(parent).relative_to(folder)
        found += [
            (inside / file).as_posix() for file in files
            if file.lower().endswith(suffixes) and file[0] != '.'
        ]  # fmt: skip
    return sorted(found)


def _keys(
    names: List[str], suffix: str, folder: Path, other: str
) -> Tuple[Dict[str, str], List[str]]:
    """Names by what is before ``suffix``; names that end as those of the others do are theirs."""
    found: Dict[str, List[str]] = {}
    for name in names:
        stem = name[: name.rindex('.')]
        if other and stem.endswith(other) and len(other) > len(suffix):
            continue
        if stem.endswith(suffix):
            found.setdefault(stem[: len(stem) - len(suffix)], []).append(name)
    twice = [' and '.join(names) for names in found.values() if len(names) > 1]
    problems = [f'{folder}: {shorten(twice)} of one name; which one is meant?'] if twice else []
    return {key: names[0] for key, names in found.items()}, problems


def _nothing_fits(images, masks, by_image, by_mask, problems: List[str]) -> str:
    if not by_image:
        return f'{images} holds no image ({", ".join(IMAGE_SUFFIXES)}) of the expected name'
    if not by_mask:
        return f'{masks} holds no mask ({", ".join(MASK_SUFFIXES)}) of the expected name'
    first = next(iter(by_image.values())), next(iter(by_mask.values()))
    hint = ''
    guess = _common_suffix(by_image, by_mask)
    if guess:
        hint = f'. All of the masks that fit would with --mask-suffix {guess}'
    return f'no image has a mask of its name: {images} has {first[0]}, {masks} has {first[1]}{hint}'


def _common_suffix(by_image: Dict[str, str], by_mask: Dict[str, str]) -> Optional[str]:
    """What most masks have behind the name of an image."""
    ends = Counter()
    for mask in by_mask:
        for cut in range(len(mask) - 1, 0, -1):
            if mask[:cut] in by_image:
                ends[mask[cut:]] += 1
                break
    return ends.most_common(1)[0][0] if ends else None
