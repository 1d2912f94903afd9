"""Read every file of a data set before a run, and report all problems at once."""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Callable, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS

from lspt_mm.config.preflight import datasets_of
from lspt_mm.errors import InputError
from lspt_mm.utils.atomic_io import read_json, write_json
from lspt_mm.utils.cache import cache_folder, digest_samples
from lspt_mm.utils.cli import map_with_progress
from lspt_mm.utils.images import IGNORE_INDEX, check_image
from lspt_mm.utils.text import format_list, shorten
from lspt_mm.version import __version__


class Findings(NamedTuple):
    """Lines that each name a file.

    Attributes:
        errors: Problems that would end a run, or spoil it.
        remarks: Harmless findings: labels without a class, classes without an image.
    """

    errors: List[str]
    remarks: List[str]


def check_data(cfg: Config, loaders: Tuple[str, ...]) -> Findings:
    """Read every file of the data sets of ``loaders``, except files that an earlier check passed.

    Prints remarks.

    Raises:
        InputError: Naming all bad files, if there are more than ``train_cfg.skip_bad``.
    """
    errors, remarks = {}, {}  # in order, without duplicates
    classes = ((cfg.get('model') or {}).get('head') or {}).get('num_classes')
    for dataset in datasets_of(cfg, loaders):
        found = _check(dataset, classes)
        errors.update(dict.fromkeys(found.errors))
        remarks.update(dict.fromkeys(found.remarks))
    if remarks:
        print(f'Remarks on the data:\n{format_list(remarks)}', flush=True)
    if len(errors) > (cfg.get('train_cfg') or {}).get('skip_bad', 0):
        raise InputError(
            f'{len(errors)} problems in the data; to train anyway: --no-check, and '
            f'train_cfg.skip_bad=N for files that cannot be read\n'
            + format_list(errors, len(errors))
        )
    return Findings(list(errors), list(remarks))


def _check(cfg: dict, classes: Optional[int]) -> Findings:
    dataset = DATASETS.build(dict(cfg, pipeline=[]))
    dataset.full_init()
    samples = [dataset.get_data_info(i) for i in range(len(dataset))]
    if not samples or 'img_path' not in samples[0]:
        return Findings([], [])  # a data set of another kind
    steps = [step for step in cfg.get('pipeline') or [] if isinstance(step, dict)]
    kinds = [getattr(step.get('type'), '__name__', str(step.get('type'))) for step in steps]
    label = next((dict(step) for step, kind in zip(steps, kinds, strict=True)
                  if kind.endswith('LoadSegLabels')), None)
    cache = _cache_file(samples, {'label': repr(label), 'classes': classes})
    try:
        found = Findings([], [str(line) for line in read_json(cache)['remarks']])
    except (InputError, OSError, KeyError, TypeError):
        load = TRANSFORMS.build(label) if label else None
        found = check_data_set(samples, load, classes)
        if not found.errors:
            _write_cache(cache, found)
    if label is None and 'seg_map_path' in samples[0]:
        found.remarks.append(
            f'{cfg.get("type")}: labels are not checked, as the pipeline has no '
            'lspt_mm.LoadSegLabels'
        )
    if dataset.ann_file:  # a list of images, whose labels are all there are
        return found
    # Cheap, and the cache does not cover them.
    ends = getattr(dataset, 'img_suffix', ''), getattr(dataset, 'seg_map_suffix', '')
    return found._replace(errors=found.errors + labels_without_image(samples, *ends))


def check_data_set(
    samples: List[dict], load_label: Optional[Callable[[dict], dict]] = None,
    classes: Optional[int] = None,
) -> Findings:
    """Read every image and label.

    Args:
        samples: For each sample ``img_path``, and ``seg_map_path`` (a label image) or ``gt_label``
            (a number, or a list of them).
        load_label: The pipeline's transform for label images, which raises InputError for a wrong
            one.
        classes: Number of classes, where labels are numbers.

    Returns:
        Findings: Unreadable and truncated files, images without label, labels of another size or
        with values outside the classes; as remarks, labels that are ignored altogether and
        classes without an image.
    """
    found = map_with_progress(
        lambda sample: _problems_of(sample, load_label, classes), samples, 'checking the data'
    )
    errors = [line for bad, _ in found for line in bad]
    remarks = [line for _, odd in found for line in odd]
    if classes:
        counts = Counter(number for sample in samples for number in _numbers(sample))
        empty = [c for c in range(classes) if not counts[c]]
        if empty:
            remarks.append(f'{len(empty)} of {classes} classes have no image: {shorten(empty, 20)}')
    return Findings(errors, remarks)


def _problems_of(sample: dict, load_label, classes) -> Findings:
    image, label = sample['img_path'], sample.get('seg_map_path')
    for number in _numbers(sample) if classes else ():
        if not 0 <= number < classes:
            return Findings([f'{image}: label {number}, expected 0 to {classes - 1}'], [])
    try:
        width, height = check_image(image)
        if label is not None and not os.path.isfile(label):
            raise InputError(f'{image}: its label {label} does not exist')
        if label is not None and load_label is not None:
            loaded = load_label({**sample, 'ori_shape': (height, width)})
            if np.all(loaded['gt_seg_map'] == IGNORE_INDEX):
                return Findings([], [f'{label}: all of the label is ignored'])
    except InputError as error:
        return Findings([str(error)], [])
    return Findings([], [])


def _numbers(sample: dict) -> List[int]:
    found = sample.get('gt_label')
    found = found if isinstance(found, list) else [found]
    return [number for number in found if isinstance(number, int)]


def labels_without_image(
    samples: List[dict], image_end: Union[str, Sequence[str]] = '', label_end: str = ''
) -> List[str]:
    """Label images in the folders of the labels that belong to no image.

    Args:
        samples: With ``img_path`` and ``seg_map_path``. They may be a part of the images.
        image_end: End of the images' names, or several, to find those that are no sample.
        label_end: What stands in its place in labels' names.
    """
    ends = [image_end] if isinstance(image_end, str) else image_end
    known = {os.path.normpath(s['seg_map_path']) for s in samples if s.get('seg_map_path')}
    folders = {
        os.path.dirname(os.path.normpath(s['seg_map_path'])): os.path.dirname(s['img_path'])
        for s in samples
        if s.get('seg_map_path')
    }
    found = []
    for folder, images in sorted(folders.items()):
        if os.path.isdir(folder):
            for entry in sorted(os.scandir(folder), key=lambda e: e.name):
                path = os.path.normpath(entry.path)
                if path in known or not entry.name.endswith(label_end):
                    continue
                start = os.path.join(images, entry.name.removesuffix(label_end))
                if not any(os.path.isfile(start + end) for end in ends):
                    found.append(f'{path}: a label without an image')
    return found


def _cache_file(samples: Iterable[dict], settings: dict) -> Path:
    """File of a check, named by a digest of the files' names, sizes and times, and settings."""
    digest = hashlib.sha256(f'{__version__}{json.dumps(settings, sort_keys=True)}'.encode())
    digest_samples(digest, samples)
    return cache_folder() / 'checked' / f'{digest.hexdigest()}.json'


def _write_cache(path: Path, found: Findings) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {'remarks': found.remarks})
    except OSError:
        pass  # the next run checks again
