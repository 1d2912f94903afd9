"""Match masks to images by name, and read their split from the names of folders."""

import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

from lspt_mm.errors import InputError
from lspt_mm.utils.images import list_images
from lspt_mm.utils.text import shorten

#: Names of folders that are splits.
SPLIT_FOLDERS = {
    'train': 'train', 'training': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val',
    'test': 'test', 'testing': 'test',
}
_SPLIT = re.compile(r'(train|val|valid|test)(ing|idation)?([^a-z]|$)')
#: Names of folders of images and of masks inside one common folder.
_KINDS = {
    **dict.fromkeys(('images', 'image', 'imgs', 'img', 'jpegimages', 'photos'), 'image'),
    **dict.fromkeys(('masks', 'mask', 'labels', 'label', 'annotations', 'annotation', 'gt',
                     'segmentationclass', 'groundtruth', 'ground_truth'), 'mask'),
}


class Pair(NamedTuple):
    """An image and its mask, relative to their folders; ``key`` is the common part of the names."""

    key: str
    image: str
    mask: str

    @property
    def split(self) -> Optional[str]:
        """The split that the first folder of the name denotes."""
        first, _, rest = self.key.partition('/')
        return SPLIT_FOLDERS.get(first.lower()) if rest else None

    @property
    def looks_split(self) -> bool:
        """Whether a folder of the name begins as one of a split does."""
        return any(_SPLIT.match(part) for part in self.key.lower().split('/')[:-1])


def find_pairs(
    images: Path,
    masks: Path,
    image_suffix: str = '',
    mask_suffix: str = '',
    skip_unpaired: bool = False,
) -> Tuple[List[Pair], List[str], List[str]]:
    """Match images and masks by name.

    Args:
        images: Folder of the images, searched recursively.
        masks: Folder of the masks, with the same sub-folders. If it is the folder of the images,
            masks are identified by a sub-folder such as ``masks``, by the suffix, or as the PNG
            that has the name of a JPEG.
        image_suffix, mask_suffix: Text after the common part of the names.
        skip_unpaired: Skip images without a mask and masks without an image.

    Returns:
        tuple: sorted pairs, problems with the names, and a line for each folder with skipped files.

    Raises:
        InputError: If a folder is missing, or no image has a mask.
    """
    listed = []
    for what, folder in (('images', images), ('masks', masks)):
        if not folder.is_dir():
            raise InputError(f'{what} {folder}: no such folder')
        found = list_images(folder)
        listed.append((found, [path.relative_to(folder).as_posix() for path in found.images]))
    (first, of_images), (second, of_masks) = listed
    left_out = [f'{images}: {first.left_out()}'] if first.others else []
    same = images.resolve() == masks.resolve()
    if same:
        of_images, of_masks = _separate(of_images, image_suffix, mask_suffix)
    elif second.others:
        left_out.append(f'{masks}: {second.left_out()}')
    by_image, problems = _by_key(of_images, image_suffix, images, same)
    by_mask, more = _by_key(of_masks, mask_suffix, masks, same)
    problems += more
    both = sorted(by_image.keys() & by_mask.keys())
    if not both:
        raise InputError(_nothing_fits(images, masks, by_image, by_mask))
    for folder, names, others, what, other in (
        (images, by_image, by_mask, 'images', 'mask'), (masks, by_mask, by_image, 'masks', 'image')
    ):
        alone = [names[key] for key in sorted(names.keys() - others.keys())]
        if alone and skip_unpaired:
            left_out.append(f'{folder}: {len(alone)} {what} without {other}: {shorten(alone)}')
        elif alone:
            problems.append(
                f'{folder}: no {other} for {shorten(alone)}; to leave such {what} out: '
                '--skip-unpaired'
            )
    return [Pair(key, by_image[key], by_mask[key]) for key in both], problems, left_out


def _separate(names: List[str], image_suffix: str, mask_suffix: str):
    """Split the files of one folder into images and masks."""
    kinds = {name: {_KINDS.get(part.lower()) for part in name.split('/')[:-1]} for name in names}
    if any('mask' in kind for kind in kinds.values()):
        return ([name for name in names if 'mask' not in kinds[name]],
                [name for name in names if 'mask' in kinds[name]])
    if image_suffix == mask_suffix:
        jpegs = [n for n in names if n.lower().endswith(('.jpg', '.jpeg', '.jfif', '.jpe'))]
        return jpegs, [name for name in names if name.lower().endswith('.png')]
    longer = max(image_suffix, mask_suffix, key=len)
    ends = {name: Path(name).stem.endswith(longer) for name in names}
    with_it = [name for name in names if ends[name]], [name for name in names if not ends[name]]
    return with_it if longer == image_suffix else with_it[::-1]


def _by_key(
    names: List[str], suffix: str, folder: Path, same: bool
) -> Tuple[Dict[str, str], List[str]]:
    """Names by the part before ``suffix``, in one Unicode form."""
    found: Dict[str, List[str]] = {}
    for name in names:
        path = Path(name)
        parts = [p for p in path.parent.parts if not (same and p.lower() in _KINDS)]
        if path.stem.endswith(suffix):
            key = '/'.join([*parts, path.stem[: len(path.stem) - len(suffix)]])
            found.setdefault(unicodedata.normalize('NFC', key), []).append(name)
    twice = [' and '.join(names) for names in found.values() if len(names) > 1]
    problems = [f'{folder}: {shorten(twice)} of one name; which one is meant?'] if twice else []
    return {key: names[0] for key, names in found.items()}, problems


def _nothing_fits(images, masks, by_image, by_mask) -> str:
    for folder, found in ((images, by_image), (masks, by_mask)):
        if not found:
            return f'{folder} holds no image file of the expected name'
    ends = Counter(
        mask[len(key) :] for mask in list(by_mask)[:50] for key in by_image if mask.startswith(key)
    )
    hint = f'. Do the masks need --mask-suffix={ends.most_common(1)[0][0]}?' if ends else ''
    first = next(iter(by_image.values())), next(iter(by_mask.values()))
    return f'no image has a mask of its name: {images} has {first[0]}, {masks} has {first[1]}{hint}'
