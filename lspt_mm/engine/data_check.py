"""The check of all files of a run's data before its first iteration."""

from typing import Iterable, Optional, Tuple

from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS

from lspt_mm.datasets.checking import (
    Findings,
    check_data_set,
    known,
    labels_without_image,
    listed,
    remember,
    state_of,
)
from lspt_mm.engine.preflight import datasets_of
from lspt_mm.errors import InputError


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
        print(f'Remarks on the data:\n{listed(list(remarks))}', flush=True)
    skipped = (cfg.get('train_cfg') or {}).get('skip_bad', 0)
    if len(errors) > skipped:
        raise InputError(
            f'{len(errors)} problems in the data; to train all the same: --no-check, and '
            f'train_cfg.skip_bad=N for files that cannot be read\n'
            + '\n'.join(f'  {line}' for line in errors)
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
