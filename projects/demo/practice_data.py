"""Synthetic data in the layouts of users' own: photos with masks, folders of classes."""

from pathlib import Path
from typing import Dict, List, Union

import cv2
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from lspt_mm.errors import InputError
from projects.demo import scenes

#: Name of what is no class in masks, and its colour.
OTHER = 'other'
BLACK = (0, 0, 0)
#: Classes of the classification folder: things that stand alone often enough.
THINGS = ('tree', 'bush', 'car', 'person', 'building', 'brick wall')
#: A crop's shortest side in pixels, and what a thing's box must at least be.
_LEAST = 24
_CROP = 96


def write_photos_and_masks(
    root: Path, count: Union[int, Dict[str, int]] = 20, size: int = 256, seed: int = 0
) -> None:
    """Write ``images/*.jpg``, ``masks/*.png`` in colours, and ``classes.txt``.

    Args:
        root: Folder, made if absent.
        count: How many; or name of a split to how many, with a folder for each split.
        size: Side in pixels, a multiple of 8, at least 32. Without splits every third picture is a
            quarter wider than high or the other way round, as people's are.
        seed: Of the scenes.

    Raises:
        InputError: If ``root`` holds anything, or a number is out of its range.
    """
    splits = count if isinstance(count, dict) else {'': count}
    for number in splits.values():
        _check(root, number, size)
    colours = np.array([BLACK, *scenes.PALETTE], np.uint8)
    work = [(split, i) for split, number in splits.items() for i in range(1, number + 1)]
    for split, index in track(work, 'rendering', console=Console(stderr=True), transient=True):
        rng = scenes.scene_rng(seed, split or 'practice', index)
        image, label = scenes.render_scene(rng, size)
        cut = size - size // 5 // (1 + index % 3 % 2) if index % 3 and not split else size
        rows, columns = (size, cut) if index % 3 == 1 else (cut, size)
        for folder in ('images', 'masks'):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        name = f'photo_{index:0{max(2, len(str(splits[split])))}d}'
        _write_jpeg(root / 'images' / split / f'{name}.jpg', image[:rows, :columns])
        mask = Image.fromarray(colours[label[:rows, :columns]])
        mask.save(root / 'masks' / split / f'{name}.png')
    lines = [(OTHER, BLACK), *zip(scenes.CLASSES, scenes.PALETTE, strict=True)]
    text = ''.join(f'{name} {" ".join(map(str, colour))}\n' for name, colour in lines)
    (root / 'classes.txt').write_text(text, encoding='utf-8')


def write_class_folders(root: Path, count: int = 12, size: int = 256, seed: int = 0) -> None:
    """Write ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg``: things cut out of scenes.

    A quarter of the pictures of each class (rounded up) is for the test; the scenes of train and
    test are different ones.

    Args:
        root: Folder, made if absent.
        count: Pictures of each class, at least 4.
        size: Side of the scenes that they are cut from.
        seed: Of the scenes.

    Raises:
        InputError: As :func:`write_photos_and_masks`.
    """
    _check(root, count, size)
    if count < 4:
        raise InputError(f'--count {count}: expected at least 4 pictures of each class')
    test = -(-count // 4)
    work = [(part, name, number) for part, wanted in (('train', count - test), ('test', test))
            for name in THINGS for number in range(wanted)]
    found: Dict[str, Dict[str, List[np.ndarray]]] = {}
    rendered = {'train': 0, 'test': 0}
    for part, name, number in track(work, 'rendering', console=Console(stderr=True)):
        have = found.setdefault(part, {})
        while len(have.get(name, [])) <= number:
            rendered[part] += 1
            if rendered[part] > 200 * count:  # no seed needs nearly so many
                raise InputError(f'--seed {seed}: no {name} in {rendered[part]} scenes')
            for thing, crop in _things_of(seed, part, rendered[part], size):
                have.setdefault(thing, []).append(crop)
        path = root / part / name.replace(' ', '_') / f'{name.replace(" ", "_")}_{number:02d}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_jpeg(path, have[name][number])


def _things_of(seed: int, part: str, index: int, size: int):
    """Names and pictures of the things of one scene that are large and whole enough."""
    rng = scenes.scene_rng(seed, f'practice-{part}', index)
    image, label = scenes.render_scene(rng, size)
    for name in THINGS:
        mask = (label == scenes.CLASSES.index(name) + 1).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        for left, top, width, height, area in stats[1:]:
            box = max(width, height)
            small = min(width, height) < _LEAST // 2 or box < _LEAST
            if small or box > 0.55 * size or area < 0.3 * width * height:
                continue
            side = min(int(1.3 * box), size)
            x = int(np.clip(left + width // 2 - side // 2, 0, size - side))
            y = int(np.clip(top + height // 2 - side // 2, 0, size - side))
            crop = image[y : y + side, x : x + side]
            yield name, cv2.resize(crop, (_CROP, _CROP), interpolation=cv2.INTER_AREA
                                   if side > _CROP else cv2.INTER_CUBIC)
            break  # one of a kind per scene


def _check(root: Path, count: int, size: int) -> None:
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f'--to {root}: there is something already; name a new folder')
    if count < 1:
        raise InputError(f'--count {count}: expected at least 1')
    try:
        scenes.check_side(size)
    except ValueError as error:
        raise InputError(f'--size {size}: {error}') from error


def _write_jpeg(path: Path, rgb: np.ndarray) -> None:
    Image.fromarray(np.ascontiguousarray(rgb)).save(path, quality=92, subsampling=0)
