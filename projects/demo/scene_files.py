"""Rendered scenes on disk, in ADE20K's layout of folders."""

import json
import re
import shutil
from pathlib import Path

import cv2
from rich.console import Console
from rich.progress import track

from lspt_mm.utils.checks import check_int
from projects.demo import scenes

_STAMP_NAME = 'scenes.json'
_STAMP_OWNER = 'projects.demo.scenes'
_UNLABELLED_SPLIT = 'unlabelled'
_SHORT_SPLIT = {'training': 'train', 'validation': 'val'}


def _check_splits(splits):
    if not isinstance(splits, dict) or not splits:
        raise ValueError(
            f'splits is {splits!r}, but must be a non-empty dict of split name -> number of '
            "scenes; pass for example {'training': 400, 'validation': 100}"
        )
    for name, count in splits.items():
        if not isinstance(name, str) or not re.fullmatch(r'[A-Za-z0-9_-]+', name):
            raise ValueError(
                f"split name {name!r} cannot name a folder; use letters, digits, '_' and '-' only"
            )
        check_int(f'splits[{name!r}]', count, 1)


def _image_path(split, index):
    stem = f'scene_{_SHORT_SPLIT.get(split, split)}_{index:08d}'
    return Path('images', split, f'{stem}.jpg')


def _label_path(split, index):
    return Path('annotations', split, f'{_image_path(split, index).stem}.png')


def _files_of(splits):
    """Relative paths of all images and labels of a data set."""
    for split, count in splits.items():
        for index in range(1, count + 1):
            yield _image_path(split, index)
            if split != _UNLABELLED_SPLIT:
                yield _label_path(split, index)


def _read_stamp(root):
    """The stamp of an earlier rendering, or None where there is none of ours."""
    try:
        stamp = json.loads((root / _STAMP_NAME).read_text(encoding='utf-8'))
    except (FileNotFoundError, ValueError):
        return None
    ours = isinstance(stamp, dict) and stamp.get('written_by') == _STAMP_OWNER
    return stamp if ours and isinstance(stamp.get('splits'), dict) else None


def _write_stamp(root, stamp):
    (root / _STAMP_NAME).write_text(json.dumps(stamp, indent=2) + '\n', encoding='utf-8')


def _clear(root, stamp):
    """Makes room for a new rendering; removes nothing unless all of it was rendered here."""
    if not root.exists():
        return
    if not root.is_dir():
        raise ValueError(f'{root} is a file, but must be a folder or not exist; name another path')
    if stamp is None:
        if any(root.iterdir()):
            raise ValueError(
                f'{root} is not empty and has no {_STAMP_NAME} of a rendered data set, so its '
                'content is kept; name an empty or new folder, or empty this one yourself'
            )
        return
    folders = [root / 'images', root / 'annotations']
    rendered = {root / path for path in _files_of(stamp['splits'])}
    for path in (path for folder in folders for path in folder.rglob('*')):
        if path not in rendered and (path.is_symlink() or not path.is_dir()):
            raise ValueError(
                f'{path} was not rendered by this module, so {root} is left as it is; move that '
                'file away, or name another folder'
            )
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)


def _write_image(path, pixels, options=()):
    if not cv2.imwrite(str(path), pixels, options):
        raise OSError(f'could not write {path}')


def _write_split(root, split, indices, seed, size):
    # Full chroma resolution: thin coloured things would bleed with JPEG's usual 4:2:0.
    jpeg = (cv2.IMWRITE_JPEG_QUALITY, 95)
    jpeg += (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    for index in indices:
        image, label = scenes.render_scene(scenes.scene_rng(seed, split, index), size)
        _write_image(root / _image_path(split, index), image[..., ::-1], jpeg)
        if split != _UNLABELLED_SPLIT:
            _write_image(root / _label_path(split, index), label)


def _write_class_list(root):
    rows = [
        'Idx\tName',
        *(f'{index}\t{name}' for index, name in enumerate(scenes.CLASSES, start=1)),
    ]
    (root / 'objectInfo.txt').write_text('\n'.join(rows) + '\n', encoding='utf-8')


def write_ade20k_layout(root, splits, seed=0, size=128):
    """Renders a data set into the folder layout of ADE20K, unless it is there already.

    Written are ``images/{split}/scene_{split}_{index:08d}.jpg``, label maps of the same stem in
    ``annotations/{split}/*.png`` (single channel, values as ``scenes.render_scene`` gives),
    ``objectInfo.txt`` and the stamp ``scenes.json``.  In file names ``training`` and
    ``validation`` are cut to ``train`` and ``val``; indices start at 1.  The split named
    ``unlabelled`` gets no annotations.  A scene depends on (seed, split name, index, size) only.

    A complete data set with an equal stamp is left untouched.  One with another stamp, or one
    whose rendering was interrupted, is rendered anew; its ``images`` and ``annotations`` are
    removed first, provided that every file in them was rendered here.

    Args:
        root: folder; made if missing.
        splits: dict of split name -> number of scenes (>= 1).
        seed: int >= 0.
        size: height and width in pixels, a multiple of 8 and at least 32.

    Raises:
        ValueError: if an argument is out of its range, or if ``root`` holds other files than an
            earlier rendering; nothing is changed on disk then.
        OSError: if a file cannot be written.
    """
    _check_splits(splits)
    check_int('seed', seed, 0)
    scenes.check_side(size)
    root = Path(root)
    wanted = {
        'written_by': _STAMP_OWNER,
        'renderer_version': scenes.RENDERER_VERSION,
        'seed': int(seed),
        'size': int(size),
        'splits': {name: int(count) for name, count in splits.items()},
    }
    stamp = _read_stamp(root) if root.is_dir() else None
    if stamp == wanted | {'complete': True}:
        return
    _clear(root, stamp)
    root.mkdir(parents=True, exist_ok=True)
    # Stamped first as incomplete: an interrupted rendering is then known as ours.
    _write_stamp(root, wanted | {'complete': False})
    _write_class_list(root)
    for folder in sorted({(root / path).parent for path in _files_of(wanted['splits'])}):
        folder.mkdir(parents=True)
    for split, count in wanted['splits'].items():
        indices = track(range(1, count + 1), split, console=Console(stderr=True))
        _write_split(root, split, indices, wanted['seed'], wanted['size'])
    _write_stamp(root, wanted | {'complete': True})
