"""Checks that a run's data and weights exist before anything is built."""

import copy
import inspect
import os
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Set, Tuple, Union

from mmengine.config import Config
from mmengine.registry import DATASETS

from lspt_mm.checkpoints.download import existing_file, is_url, split_sha256
from lspt_mm.checkpoints.io import read_checkpoint
from lspt_mm.checkpoints.load_backbone import TIMM
from lspt_mm.errors import InputError
from lspt_mm.registry import takes_prompts
from lspt_mm.utils.images import folders_in, is_image
from lspt_mm.utils.text import shorten


def check_inputs(cfg: Config, loaders: Tuple[str, ...], checkpoint_read: bool = False) -> None:
    """Raise InputError naming every missing folder and file that ``cfg`` needs.

    The message includes the config's ``data_help`` and ``pretrained_help``: where to get them.

    Args:
        cfg: Config of the run.
        loaders: The dataloaders that will be used, such as ``('train_dataloader',)``.
        checkpoint_read: Whether the checkpoint of ``load_from`` has been read already.
    """
    problems = _data_problems(cfg, loaders)
    load_from = cfg.get('load_from')
    if load_from and not is_url(load_from) and not Path(load_from).expanduser().is_file():
        problems.append(f'file {load_from}, the checkpoint of load_from, does not exist')
    elif load_from and not is_url(load_from) and not (checkpoint_read or cfg.get('resume')):
        read_checkpoint(load_from)  # raises an InputError if it cannot be read
    missing_weights = _missing_weights(cfg)
    if missing_weights:
        problems += missing_weights
        if cfg.get('pretrained_help'):
            problems.append(cfg.pretrained_help.strip())
        problems.append('If the file lies elsewhere: --pretrained FILE')
    _refuse(problems)


def check_data_is_there(cfg: Config, loaders: Tuple[str, ...]) -> None:
    """Run the part of :func:`check_inputs` that concerns data."""
    _refuse(_data_problems(cfg, loaders))


def _data_problems(cfg: Config, loaders: Tuple[str, ...]) -> List[str]:
    problems = _missing_data(cfg, loaders)
    if problems:
        if cfg.get('data_help'):
            problems.append(cfg.data_help.strip())
        problems.append('If the data lies elsewhere: --data-root FOLDER')
    return problems


def _refuse(problems: List[str]) -> None:
    if problems:
        lines = '\n'.join(f'  {line}' for p in problems for line in p.splitlines())
        raise InputError(f'this run cannot start, its input is incomplete:\n{lines}')


def datasets_of(cfg: Config, loaders: Tuple[str, ...]) -> Iterator[dict]:
    """Configs of the data sets of ``loaders``, including those in wrappers (ConcatDataset)."""
    for loader in loaders:
        node = (cfg.get(loader) or {}).get('dataset')
        stack = [node]
        while stack:
            node = stack.pop()
            if isinstance(node, (list, tuple)):
                stack += node
            elif isinstance(node, dict):
                inner = [node[k] for k in ('dataset', 'datasets') if k in node]
                if inner:
                    stack += inner
                else:
                    yield node


def training_images(cfg: Config) -> dict:
    """Config of the training images by the pipeline of validation or test: not augmented.

    Raises:
        InputError: If there is no such pipeline.
    """
    plain = next(datasets_of(cfg, ('val_dataloader', 'test_dataloader')), None)
    if plain is None:
        raise InputError(
            'training images without augmentation need the pipeline of val_dataloader or '
            'test_dataloader; the config has neither'
        )
    images = copy.deepcopy(cfg.train_dataloader.dataset)
    for dataset in datasets_of({'images': {'dataset': images}}, ('images',)):
        dataset['pipeline'] = plain['pipeline']
    return images


def _missing_data(cfg: Config, loaders) -> List[str]:
    problems: List[str] = []
    classes: Dict[str, Set[str]] = {}
    wanted = ((cfg.get('model') or {}).get('head') or {}).get('num_classes')
    for dataset in datasets_of(cfg, loaders):
        for problem in _missing_of(dataset, wanted, classes):
            if problem not in problems:
                problems.append(problem)
    return problems or _other_classes(classes)


def _other_classes(classes: Dict[str, Set[str]]) -> List[str]:
    """One message for each folder whose sub-folders differ from those of the first."""
    (first, expected), *others = [*classes.items()] or [('', set())]
    problems = []
    for folder, names in others:
        differences = (('has', names - expected, 'lacks'), ('lacks', expected - names, 'has'))
        found = [f'{verb} {shorten(sorted(these))}, which {first} {other}'
                 for verb, these, other in differences if these]
        if found:
            problems.append(
                f'folder {folder} {", and ".join(found)}: classes are numbered in the order of '
                'their folders, expected the same folders in each split'
            )
    return problems


def _missing_of(cfg: dict, wanted: Optional[int], classes: Dict[str, Set[str]]) -> List[str]:
    """Messages on one data set; its sub-folders, if they are classes, go into ``classes``."""
    root = cfg.get('data_root') or ''
    if _downloads(cfg):
        return []
    if root and not os.path.isdir(root):
        return [f'folder {root}, the data of {cfg.get("type")}, does not exist']
    # Ask the data set itself where it reads from.
    dataset = DATASETS.build(dict(cfg, lazy_init=True, pipeline=[]))
    problems = []
    if dataset.ann_file and not os.path.isfile(dataset.ann_file):
        problems.append(f'file {dataset.ann_file} does not exist')
    for name, folder in dataset.data_prefix.items():
        if not os.path.isdir(folder):
            problems.append(f'folder {folder} does not exist')
        elif dataset.ann_file:  # a list names the files
            continue
        elif hasattr(dataset, 'img_suffix'):  # mmseg's
            masks = name == 'seg_map_path'
            kind = 'label images' if masks else 'images'
            ends = _suffixes(dataset.seg_map_suffix if masks else dataset.img_suffix)
            if not _holds_file(folder, lambda path, ends=ends: path.endswith(ends)):
                problems.append(f'folder {folder} holds no {kind} ({", ".join(ends)})')
        elif hasattr(dataset, 'extensions'):  # mmpretrain's
            ends = tuple(dataset.extensions)
            if not _holds_file(
                folder, lambda path, ends=ends: path.lower().endswith(ends) or is_image(path)
            ):
                problems.append(f'folder {folder} holds no images')
            elif _classes_are_folders(dataset):
                classes[folder] = set(folders_in(folder))
                found = len(classes[folder])
                if wanted and found != wanted:
                    problems.append(
                        f'folder {folder} has {found} sub-folders, one for each class, but the '
                        f'head has {wanted} classes: --cfg-options model.head.num_classes={found}'
                    )
    return problems


def _downloads(cfg: dict) -> bool:
    """Whether a data set fetches what is absent, as mmpretrain's CIFAR and MNIST do."""
    kind = DATASETS.get(str(cfg.get('type')))
    known = inspect.signature(kind).parameters if kind is not None else {}
    return 'download' in known and cfg.get('download', known['download'].default)


def _classes_are_folders(dataset) -> bool:
    """Whether a data set (mmpretrain's) takes its classes from the names of sub-folders."""
    return getattr(dataset, 'with_label', False) and not dataset.ann_file


def _suffixes(value: Union[str, Tuple[str, ...]]) -> Tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _holds_file(folder: str, accepts: Callable[[str], bool]) -> bool:
    walk = os.walk(folder, followlinks=True)
    return any(accepts(os.path.join(place, name)) for place, _, names in walk for name in names)


def _missing_weights(cfg: Config) -> List[str]:
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    if not takes_prompts(backbone) or cfg.get('load_from'):
        return []
    source = backbone.get('pretrained') or cfg.model.get('pretrained')
    init_cfg = backbone.get('init_cfg')
    if source is None and isinstance(init_cfg, dict) and init_cfg.get('type') == 'Pretrained':
        source = init_cfg.get('checkpoint')
    if source is None:
        if allows_random(cfg):
            return []
        return [
            'pre-trained weights of the ViT: the config names none. Name a file with '
            '--pretrained FILE; to run on a random backbone all the same: --random-backbone'
        ]
    place = absent_file(source)
    if place is None:
        return []
    return [f'file {place}, the pre-trained weights of the ViT, does not exist']


def check_vit_file(source: str) -> None:
    """Raise InputError if ``source``, from the command line, names a file that does not exist."""
    place = absent_file(source)
    if place is not None:
        raise InputError(f'--pretrained {place}: no such file')


def absent_file(source: str) -> Optional[str]:
    """The file that the source of a ViT names, if that file does not exist."""
    place, _ = split_sha256(source)
    return None if is_url(place) or source.startswith(TIMM) or existing_file(source) else place


def allows_random(cfg: Config) -> bool:
    """Whether the config's ``BackboneWeightsHook`` allows a random backbone."""
    return any(
        'BackboneWeightsHook' in str(h.get('type')) and h.get('allow_random')
        for h in cfg.get('custom_hooks') or []
    )
