"""The official lists of the FGVC data sets, and the published splits, in one form."""

import io
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from lspt_mm.converters.archives import SPLITS_SOURCE
from lspt_mm.converters.splits import Pairs
from lspt_mm.errors import InputError
from lspt_mm.utils.atomic_io import read_json
from lspt_mm.utils.text import shorten


class Official(NamedTuple):
    """The official lists of a data set.

    ``train`` holds all training images; ``val`` is None where there is no official one.
    ``prefixes`` are folders that other lists leave out of the paths.
    """

    classes: List[str]
    train: Pairs
    test: Pairs
    prefixes: Tuple[str, ...]
    val: Optional[Pairs] = None


class Layout(NamedTuple):
    """The files and folders that a data set is published as.

    ``folders``: folder of images to the archive that has it. ``files``: list to the archive that
    may have it, or None. ``read`` takes the folder that has the folders, and the
    content of the files.
    """

    folders: Dict[str, str]
    files: Dict[str, Optional[str]]
    read: Callable[[Path, Dict[str, bytes]], Official]


def _read_birds(root: Path, files: Dict[str, bytes], name: str, sparse: bool) -> Official:
    """CUB's four text files, which NABirds has too.

    With ``sparse`` the classes' numbers have gaps, and labels number those that have images;
    otherwise they are the numbers less 1.
    """
    folder = root / name
    images = _table(folder / 'images.txt')
    numbers = _numbers(folder / 'image_class_labels.txt')
    is_train = _numbers(folder / 'train_test_split.txt')
    titles = _numbered(folder / 'classes.txt', _table(folder / 'classes.txt'))
    if sparse:
        label_of = {number: i for i, number in enumerate(sorted(set(numbers.values())))}
    else:
        label_of = {number: number - 1 for number in {*titles, *numbers.values()}}
    train: Pairs = []
    test: Pairs = []
    for key, image in images.items():
        for table, file in ((numbers, 'image_class_labels'), (is_train, 'train_test_split')):
            if key not in table:
                raise InputError(f'{folder}/{file}.txt: lacks image {key} of images.txt')
        split = train if is_train[key] else test
        split.append((f'{name}/images/{image}', label_of[numbers[key]]))
    classes = [titles.get(number, str(number)) for number in sorted(label_of)]
    return Official(classes, train, test, (f'{name}/images/', f'{name}/'))


def _read_flowers(root: Path, files: Dict[str, bytes]) -> Official:
    (labels,) = _columns(files, 'imagelabels.mat', labels=int)

    def split(key: str) -> Pairs:
        (ids,) = _columns(files, 'setid.mat', **{key: int})
        beyond = [i for i in ids if not 1 <= i <= len(labels)]
        if beyond:
            raise InputError(
                f'setid.mat: {key} has image {beyond[0]}, but imagelabels.mat has labels of images '
                f'1 to {len(labels)}'
            )
        return [(f'jpg/image_{i:05d}.jpg', labels[i - 1] - 1) for i in ids]

    # The official files give the classes no names.
    classes = [str(number) for number in sorted(set(labels))]
    return Official(classes, split('trnid'), split('tstid'), ('jpg/',), val=split('valid'))


def _read_dogs(root: Path, files: Dict[str, bytes]) -> Official:
    titles: Dict[int, str] = {}

    def split(file: str) -> Pairs:
        pairs = list(zip(*_columns(files, file, file_list=str, labels=int), strict=True))
        titles.update((label, name.split('/')[0]) for name, label in pairs)
        return [(f'Images/{name}', label - 1) for name, label in pairs]

    train, test = split('train_list.mat'), split('test_list.mat')
    classes = [titles[label].partition('-')[2] or titles[label] for label in sorted(titles)]
    return Official(classes, train, test, ('Images/',))


def _read_cars(root: Path, files: Dict[str, bytes]) -> Official:
    file = 'cars_annos.mat'
    fields = {'relative_im_path': str, 'class': int, 'test': int}
    rows = list(zip(*_columns(files, file, 'annotations', **fields), strict=True))
    train = [(name, number - 1) for name, number, is_test in rows if not is_test]
    test = [(name, number - 1) for name, number, is_test in rows if is_test]
    (classes,) = _columns(files, file, class_names=str)
    return Official(classes, train, test, ('car_ims/',))


def _read_cars_in_two(root: Path, files: Dict[str, bytes]) -> Official:
    def split(file: str, folder: str) -> Pairs:
        rows = zip(*_columns(files, file, 'annotations', fname=str, **{'class': int}), strict=True)
        return [(f'{folder}/{name}', number - 1) for name, number in rows]

    train = split('cars_train_annos.mat', 'cars_train')
    test = split('cars_test_annos_withlabels.mat', 'cars_test')
    (classes,) = _columns(files, 'cars_meta.mat', class_names=str)
    # Without a prefix a path could be of either folder.
    return Official(classes, train, test, ())


#: The layouts that each data set circulates in.
LAYOUTS: Dict[str, Tuple[Layout, ...]] = {
    'cub': (Layout({'CUB_200_2011': 'CUB_200_2011.tgz'}, {},
                   partial(_read_birds, name='CUB_200_2011', sparse=False)),),
    'nabirds': (Layout({'nabirds': 'nabirds.tar.gz'}, {},
                       partial(_read_birds, name='nabirds', sparse=True)),),
    'flowers': (
        Layout(
            {'jpg': '102flowers.tgz'},
            {'imagelabels.mat': None, 'setid.mat': None},
            _read_flowers,
        ),
    ),
    'dogs': (
        Layout(
            {'Images': 'images.tar'},
            {'train_list.mat': 'lists.tar', 'test_list.mat': 'lists.tar'},
            _read_dogs,
        ),
    ),
    'cars': (
        Layout({'car_ims': 'car_ims.tgz'}, {'cars_annos.mat': None}, _read_cars),
        Layout(
            {'cars_train': 'cars_train.tgz', 'cars_test': 'cars_test.tgz'},
            {
                'cars_train_annos.mat': 'car_devkit.tgz',
                'cars_test_annos_withlabels.mat': 'car_devkit.tgz',
                'cars_meta.mat': 'car_devkit.tgz',
            },
            _read_cars_in_two,
        ),
    ),
}


def _table(path: Path) -> Dict[str, str]:
    """Lines ``key value`` of a text file."""
    if not path.is_file():
        raise InputError(f'{path} does not exist; the official archive has it')
    found: Dict[str, str] = {}
    for number, line in enumerate(path.read_text('utf-8', 'replace').splitlines(), 1):
        if not line.strip():
            continue
        key, _, value = line.strip().partition(' ')
        if not value:
            raise InputError(f'{path}, line {number}: {line!r}: expected an id and a value')
        if key in found:
            raise InputError(f'{path}, line {number}: id {key} occurs twice')
        found[key] = value.strip()
    return found


def _numbers(path: Path) -> Dict[str, int]:
    found = _table(path)
    for key, value in found.items():
        if not value.isdecimal():
            raise InputError(f'{path}: id {key} has {value!r}, expected a number')
    return {key: int(value) for key, value in found.items()}


def _numbered(path: Path, table: Dict[str, str]) -> Dict[int, str]:
    for key in table:
        if not key.isdecimal():
            raise InputError(f'{path}: id {key!r}: expected the number of a class')
    return {int(key): value for key, value in table.items()}


def _columns(files: Dict[str, bytes], file: str, inside: str = '', **kinds: type) -> List[list]:
    """Variables of a .mat file, or fields of the records of its variable ``inside``, as lists.

    Raises:
        InputError: If one is not there or of another kind, or they are not equally long.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(io.BytesIO(files[file]), squeeze_me=True)
        content = content[inside] if inside else content
        found = [
            [kind(item) for item in np.atleast_1d(content[key])] for key, kind in kinds.items()
        ]
    except Exception as error:  # scipy raises any type for another or a broken file
        raise InputError(
            f'{file}: {inside} {", ".join(kinds)} cannot be read ({error!r}); is it the official '
            'file?'
        ) from error
    if len({len(values) for values in found}) > 1:
        lengths = ', '.join(f'{len(v)} of {key}' for key, v in zip(kinds, found, strict=True))
        raise InputError(f'{file}: {lengths}; expected as many of each')
    return found


# ---- the published splits --------------------------------------------------------------------


def published(folder: Path, official: Official) -> Tuple[Pairs, Pairs, List[str]]:
    """Train and val of a folder with ``train.json`` and ``val.json``.

    Each is ``{image: class id}``, the image relative to the data set's folder or to that of its
    images. Labels and the test are the official ones.

    Returns:
        Train, val, and problems of the files, a sentence each.

    Raises:
        InputError: If a file is missing or malformed.
    """
    splits = ('train', 'val')
    missing = [f'{split}.json' for split in splits if not (folder / f'{split}.json').is_file()]
    if missing:
        raise InputError(
            f'{folder} lacks {", ".join(missing)}; expected {{image: class id}} in train.json '
            f'and val.json ({SPLITS_SOURCE}). Without --splits, val is drawn here'
        )
    labels = dict(official.train + official.test)
    found: Dict[str, Pairs] = {}
    problems = []
    for split in splits:
        found[split], foreign = [], []
        path = folder / f'{split}.json'
        # As names, which keep an image that occurs twice; class ids may have any form.
        names = read_json(path, object_pairs_hook=lambda items: [name for name, _ in items])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InputError(f'{path}: expected {{"image": class id, ...}}')
        for given in names:
            name = _official_name(given, official, labels)
            if name is None:
                foreign.append(given)
            else:
                found[split].append((name, labels[name]))
        if foreign:
            cars = any(name.startswith('car_ims/') for name in foreign)
            problems.append(
                f'{path}: {shorten(foreign)} not among the official images'
                + cars * '; this split needs the layout with car_ims and cars_annos.mat'
            )
    return found['train'], found['val'], problems


def _official_name(given: str, official: Official, labels: Dict[str, int]):
    for prefix in ('', *official.prefixes):
        if prefix + given in labels:
            return prefix + given
    return None
