"""Arrange the seven data sets of the small tables (docs/protocol.md).

    python -m lspt_mm small_data --from DOWNLOADS --to data/small

DOWNLOADS has a folder per data set, with the published images in any layout below it: eurosat,
flowers36 (or all of Flowers-102), caltech101 and cifar (CIFAR-100 as PNGs by their official names),
found by the names in `lists/`; camvid, ccp59 and drive with images/SPLIT, masks/SPLIT (or
annotations/SPLIT) and classes.txt. Data sets that are not there are left out.
"""

import os
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, NamedTuple

from lspt_mm.converters.masks import prepare_masks
from lspt_mm.errors import InputError
from lspt_mm.utils.atomic_io import write_json, write_text
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser

LISTS = Path(__file__).parent / 'lists'
#: Published split to ours. Where there is no `val`, a fifth of `train` is drawn.
MASKS = {
    'camvid': {'training': 'train', 'validation': 'test'},
    'ccp59': {'train': 'train', 'val': 'val', 'test': 'test'},
    'drive': {'train': 'train', 'val': 'test'},
}
#: Values of masks that are no class.
VOID = {'camvid': ('11',)}
_VTAB = {'train': 'train800', 'val': 'val200', 'test': 'test'}


class Listed(NamedTuple):
    """A line of a list: split, ``CLASS/FILE`` and the number of the class."""

    split: str
    name: str
    label: int


def read_list(task: str) -> List[Listed]:
    """The images of a classification task."""
    lines = (LISTS / f'{task}.txt').read_text(encoding='utf-8').splitlines()
    return [Listed(split, name, int(label)) for split, name, label in map(str.split, lines)]


def find_images(folder: Path, listed: List[Listed]) -> Dict[str, Path]:
    """The file of each listed image, by ``CLASS/FILE``, or by FILE where only one has this name.

    Raises:
        InputError: Naming images that are not below the folder.
    """
    files = [path for path in folder.rglob('*') if path.is_file()]
    by_class = {f'{path.parent.name}/{path.name}': path for path in files}
    by_name = defaultdict(list)
    for path in files:
        by_name[path.name].append(path)
    found, missing = {}, []
    for _, name, _ in listed:
        alone = by_name[name.split('/')[1]]
        if name in by_class:
            found[name] = by_class[name]
        elif len(alone) == 1:
            found[name] = alone[0]
        else:
            missing.append(name)
    if missing:
        raise InputError(
            f'{folder}: {len(missing)} of {len(listed)} images are missing, such as {missing[0]}; '
            f'expected those of {LISTS.name}/{folder.name}.txt'
        )
    return found


def link(source: Path, path: Path) -> None:
    """Make ``path`` a link to ``source``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.symlink(source.resolve(), path)


def arrange_images(task: str, source: Path, dest: Path) -> str:
    """Write a classification task in the layout of VTAB-1K, or of `imagefolder` for Flowers36."""
    listed = read_list(task)
    found = find_images(source, listed)
    folder = dest / task if task == 'flowers36' else dest / 'vtab-1k' / task
    for name, path in found.items():
        link(path, folder / 'images' / name)
    splits = {split: [x for x in listed if x.split == split] for split in _VTAB}
    if task == 'flowers36':
        for split, items in splits.items():
            pairs = {f'images/{item.name}': item.label for item in items}
            write_json(folder / f'{split}.json', pairs)
        classes = {item.label: item.name.split('/')[0] for item in listed}
        names = [classes[label] for label in sorted(classes)]
        counts = {split: len(items) for split, items in splits.items()}
        about = {'name': task, 'classes': names, 'images': counts}
        write_json(folder / 'about.json', about)
    else:
        lines = {
            name: [f'images/{item.name} {item.label}' for item in splits[split]]
            for split, name in _VTAB.items()
        }
        lines['train800val200'] = lines['train800'] + lines['val200']
        for name, of_split in lines.items():
            write_text(folder / f'{name}.txt', '\n'.join(of_split) + '\n')
    return ', '.join(f'{split} {len(items)}' for split, items in splits.items())


def arrange_masks(task: str, source: Path, dest: Path) -> str:
    """Link the splits under our names, and convert the masks as ``own_masks`` does."""
    masks = 'masks' if (source / 'masks').is_dir() else 'annotations'
    renamed = dest / 'splits' / task
    for theirs, ours in MASKS[task].items():
        link(source / 'images' / theirs, renamed / 'images' / ours)
        link(source / masks / theirs, renamed / 'masks' / ours)
    outcome = prepare_masks(
        renamed / 'images', renamed / 'masks', dest / task, classes=source / 'classes.txt',
        ignore=VOID.get(task, ()),
    )
    return outcome.table.splitlines()[0]


def main() -> None:
    """Arrange what is there."""
    parser = tool_parser(__doc__)
    parser.add_argument('--from', type=Path, required=True, dest='source', metavar='DOWNLOADS')
    parser.add_argument('--to', type=Path, required=True, metavar='DATA')
    args = parser.parse_args()
    with input_errors_as_messages(args.debug):
        arrangers = {
            **{path.stem: arrange_images for path in sorted(LISTS.glob('*.txt'))},
            **dict.fromkeys(MASKS, arrange_masks),
        }
        there = [task for task in arrangers if (args.source / task).is_dir()]
        if not there:
            raise InputError(f'{args.source}: has none of the folders {", ".join(arrangers)}')
        for task, arrange in arrangers.items():
            found = task in there
            about = arrange(task, args.source / task, args.to) if found else 'left out, no folder'
            print(f'{task}: {about}', flush=True)


if __name__ == '__main__':
    main()
