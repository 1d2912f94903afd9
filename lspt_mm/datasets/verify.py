"""Looking at every file of a data set before a run begins, and saying all that is wrong at once."""

import hashlib
import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

import numpy as np
import pooch
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS

from lspt_mm.config.preflight import datasets_of
from lspt_mm.errors import InputError
from lspt_mm.utils.atomic_io import write_text
from lspt_mm.utils.images import IGNORE_INDEX, check_image
from lspt_mm.utils.text import format_list, shorten
from lspt_mm.version import __version__

#: Environment variable: folder to remember checks in, instead of the user's cache.
CACHE = 'LSPT_MM_CACHE'


class Findings(NamedTuple):
    """What was found: lines that name the file.

    Attributes:
        errors: What would end a run, or spoil it.
        remarks: What a run can live with: labels without a class, classes without an image.
    """

    errors: List[str]
    remarks: List[str]


def check_data_set(
    data: Iterable[dict], load_label: Optional[Callable[[dict], dict]] = None,
    classes: Optional[int] = None, told: Callable[[Iterable, int], Iterable] = lambda x, n: x,
) -> Findings:
    """Read every image and label.

    Args:
        data: For each sample ``img_path``, and ``seg_map_path`` (a label image) or ``gt_label`` (a
            number).
        load_label: The pipeline's own transform for label images, which raises InputError for one
            that cannot be right.
        classes: Number of classes, where labels are numbers.
        told: Passes on an iterable of so many items, showing progress.

    Returns:
        Findings: Unreadable and truncated files, images without label, labels of another size or
        with values outside the classes; as remarks, labels that are ignored altogether and
        classes without an image.
    """
    samples = list(data)

    def look(sample: dict) -> Tuple[List[str], List[str]]:
        return _problems_of(sample, load_label, classes)

    errors: List[str] = []
    remarks: List[str] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:  # decoders run without Python's lock
        for bad, odd in told(pool.map(look, samples), len(samples)):
            errors += bad
            remarks += odd
    if classes:
        counts = Counter(s['gt_label'] for s in samples if isinstance(s.get('gt_label'), int))
        empty = [str(c) for c in range(classes) if not counts[c]]
        if empty:
            remarks.append(f'{len(empty)} of {classes} classes have no image: {shorten(empty, 20)}')
    return Findings(errors, remarks)


def _problems_of(sample: dict, load_label, classes) -> Tuple[List[str], List[str]]:
    image, label = sample['img_path'], sample.get('seg_map_path')
    number = sample.get('gt_label')
    if classes and isinstance(number, int) and not 0 <= number < classes:
        return [f'{image}: label {number}, expected 0 to {classes - 1}'], []
    try:
        width, height = check_image(image)
    except InputError as error:
        return [str(error)], []
    if label is None:
        return [], []
    if not os.path.isfile(label):
        return [f'{image}: its label {label} does not exist'], []
    if load_label is None:
        return [], []
    try:
        loaded = load_label({**sample, 'ori_shape': (height, width)})
    except InputError as error:
        return [str(error)], []
    if np.all(loaded['gt_seg_map'] == IGNORE_INDEX):
        return [], [f'{label}: all of the label is ignored']
    return [], []


def labels_without_image(samples: List[dict]) -> List[str]:
    """Label images in the folders of the labels that belong to no sample."""
    known = {os.path.normpath(s['seg_map_path']) for s in samples if s.get('seg_map_path')}
    suffixes = {Path(path).suffix for path in known}
    found = []
    for folder in sorted({os.path.dirname(path) for path in known}):
        if os.path.isdir(folder):
            for entry in sorted(os.scandir(folder), key=lambda e: e.name):
                path = os.path.normpath(entry.path)
                if Path(path).suffix in suffixes and path not in known:
                    found.append(f'{path}: a label without an image')
    return found


# ---- what was checked before ------------------------------------------------------------------


def state_of(samples: Iterable[dict], settings: dict) -> str:
    """A digest of names, sizes and times of all files, and of how they are read."""
    total = hashlib.sha256(f'{__version__}{json.dumps(settings, sort_keys=True)}'.encode())
    for sample in samples:
        for key in ('img_path', 'seg_map_path', 'gt_label'):
            value = sample.get(key)
            total.update(f'{key}={value}'.encode(errors='surrogateescape'))
            if isinstance(value, str):
                try:
                    stat = os.stat(value)
                except OSError:
                    continue
                total.update(f'{stat.st_size} {stat.st_mtime_ns}'.encode())
    return total.hexdigest()


def known(state: str) -> Optional[Findings]:
    """What an earlier check of the same files found, if it found no errors."""
    try:
        found: Dict[str, List[str]] = json.loads(_file_of(state).read_text(encoding='utf-8'))
        return Findings([], [str(line) for line in found['remarks']])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(state: str, findings: Findings) -> None:
    """Keep a check without errors for the next run."""
    if findings.errors:
        return
    path = _file_of(state)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({'remarks': findings.remarks}))
    except OSError:
        pass  # the next run checks again


def _file_of(state: str) -> Path:
    place = os.environ.get(CACHE) or pooch.os_cache('lspt_mm')
    return Path(place) / 'checked' / f'{state}.json'


def check_data(cfg: Config, loaders: Tuple[str, ...]) -> Findings:
    """Read every file of the data sets of ``loaders``, unless they were found good before.

    Remarks are printed.

    Raises:
        InputError: Naming all files with something wrong in them, more of them than
            ``train_cfg.skip_bad`` lets pass.
    """
    errors, remarks = {}, {}  # in order, none twice
    for loader in loaders:
        for dataset in datasets_of(cfg, (loader,)):
            found = _check(dataset, _classes_of(cfg))
            errors.update(dict.fromkeys(found.errors))
            remarks.update(dict.fromkeys(found.remarks))
    if remarks:
        print(f'Remarks on the data:\n{format_list(remarks)}', flush=True)
    skipped = (cfg.get('train_cfg') or {}).get('skip_bad', 0)
    if len(errors) > skipped:
        raise InputError(
            f'{len(errors)} problems in the data; to train all the same: --no-check, and '
            f'train_cfg.skip_bad=N for files that cannot be read\n'
            + format_list(errors, len(errors))
        )
    return Findings(list(errors), list(remarks))


def _check(cfg: dict, classes: Optional[int]) -> Findings:
    dataset = DATASETS.build(dict(cfg, pipeline=[]))
    dataset.full_init()
    samples = [dataset.get_data_info(i) for i in range(len(dataset))]
    if not samples or 'img_path' not in samples[0]:
        return Findings([], [])  # of a kind that nothing is known about
    label = _label_transform(cfg)
    settings = {'label': repr(label), 'classes': classes}
    state = state_of(samples, settings)
    found = known(state)
    if found is None:
        load = TRANSFORMS.build(label) if label else None
        found = check_data_set(samples, load, classes, _with_progress)
        remember(state, found)
    # Cheap, and nothing about them is in the state.
    return found._replace(errors=found.errors + labels_without_image(samples))


def _label_transform(cfg: dict) -> Optional[dict]:
    """The pipeline's own step for label images, if it is one that checks them."""
    for step in cfg.get('pipeline') or []:
        if isinstance(step, dict) and str(step.get('type')).endswith('LoadSegLabels'):
            return dict(step)
    return None


def _classes_of(cfg: Config) -> Optional[int]:
    return ((cfg.get('model') or {}).get('head') or {}).get('num_classes')


def _with_progress(items: Iterable, count: int) -> Iterable:
    from rich.progress import track

    return track(items, 'checking the data', total=count, transient=True)
