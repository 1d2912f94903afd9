"""Which of one's own images are for training, validation and test."""

from collections import Counter
from typing import Dict, List, Tuple

from lspt_mm.converters.mask_meaning import Look, Reading, classes_in
from lspt_mm.converters.mask_pairs import SPLIT_FOLDERS
from lspt_mm.converters.splits import drawing_order
from lspt_mm.errors import InputError


def split_of(
    looks: List[Look], reading: Reading, val_share: float, test_share: float, seed: int
) -> Tuple[Dict[str, List[Look]], str]:
    """Looks of train, val and perhaps test, and where the split comes from."""
    folders = [look.pair.image.split('/')[0] for look in looks if '/' in look.pair.image]
    parts = {SPLIT_FOLDERS.get(folder.lower()) for folder in folders}
    if len(folders) == len(looks) and None not in parts and {'train', 'val'} <= parts:
        found: Dict[str, List[Look]] = {part: [] for part in ('train', 'val', 'test')}
        for look, folder in zip(looks, folders, strict=True):
            found[SPLIT_FOLDERS[folder.lower()]].append(look)
        return {part: looks for part, looks in found.items() if looks}, 'folders'
    if len(looks) < 2 + (test_share > 0):
        raise InputError(
            f'{len(looks)} images with masks: too few to divide into train and val'
            + (' and test' if test_share else '')
        )
    # sha256 of seed and name: the same on every machine, whatever the order of files.
    order = sorted(looks, key=lambda look: drawing_order(seed)((look.pair.key, 0)))
    classes = {id(look): classes_in(look, reading) for look in looks}
    split = {}
    for part, share in (('val', val_share), ('test', test_share)):
        if share:
            wanted = min(max(1, round(share * len(looks))), len(order) - 1)
            split[part] = _drawn(order, wanted, classes)
            chosen = set(map(id, split[part]))
            order = [look for look in order if id(look) not in chosen]
    by_name = {part: sorted(found, key=lambda look: look.pair.key) for part, found in
               {'train': order, **split}.items()}  # fmt: skip
    return by_name, f'ours (seed {seed})'


def _drawn(order: List[Look], wanted: int, classes: Dict[int, set]) -> List[Look]:
    """The first ones of ``order`` that leave each class an image, and if need be others."""
    left = Counter(label for look in order for label in classes[id(look)])
    chosen = []
    for look in order:
        inside = classes[id(look)]
        if len(chosen) < wanted and all(left[label] > 1 for label in inside):
            chosen.append(look)
            left.subtract(inside)
    rest = [look for look in order if look not in chosen]
    return chosen + rest[: wanted - len(chosen)]
