"""Train on a folder of images with masks or labels, in one call."""

import os
import warnings
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, Callable, Collection, Dict, Mapping, Optional, Sequence, Union

import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner

from lspt_mm.apis.run import Run
from lspt_mm.checkpoints.load_backbone import TIMM
from lspt_mm.config.cfg_options import merge_options
from lspt_mm.config.load import read_config, turn_on_amp
from lspt_mm.config.options import DEFAULT_BACKBONE
from lspt_mm.config.preflight import absent_file
from lspt_mm.converters.image_folder import prepare_image_folder
from lspt_mm.converters.mask_readers import LABELS
from lspt_mm.converters.masks import prepare_masks
from lspt_mm.datasets.verify import check_data
from lspt_mm.engine.hooks import ProgressHook
from lspt_mm.engine.runner import build_runner, run
from lspt_mm.engine.work_dir import latest_checkpoint, locked_work_dir
from lspt_mm.errors import InputError
from lspt_mm.recipes import METHODS, PRETRAININGS, resolve_experiment
from lspt_mm.recipes.mask_folder import mask_run
from lspt_mm.recipes.methods import AUTO, CANDIDATES
from lspt_mm.recipes.segmentation import METHODS as SEGMENTATION_METHODS
from lspt_mm.recipes.vits import ALIASES
from lspt_mm.utils.atomic_io import read_json, write_json
from lspt_mm.utils.checks import check_all, check_bool, check_choice, check_int, check_share
from lspt_mm.utils.cli import any_image_size, check_writable, ignore_known_warnings
from lspt_mm.utils.malloc import keep_freed_memory
from lspt_mm.utils.text import did_you_mean

#: Folder of the prepared data, below a run's.
DATA = 'data'
#: Number of training images from which ``method='auto'`` tries them on half of the images.
_LEAST = 40
_Path = Union[str, Path]


@any_image_size()
def train_segmentation(
    images: _Path,
    masks: _Path,
    out: _Path,
    classes: Union[_Path, Sequence[str], None] = None,
    backbone: str = DEFAULT_BACKBONE,
    method: str = 'lspt',
    head: str = 'upernet',
    labels: Optional[str] = None,
    ignore: Union[str, int, Sequence[Union[str, int]]] = (),
    mask_suffix: str = '',
    image_suffix: str = '',
    exif: Optional[str] = None,
    skip_unpaired: bool = False,
    val_share: float = 0.2,
    test_share: float = 0.0,
    seed: int = 0,
    amp: bool = False,
    resume: bool = False,
    options: Optional[Mapping[str, Any]] = None,
    verbose: bool = False,
) -> Run:
    """Tune a ViT on images and masks; the same run as ``configs/maskfolder/transfer.py``.

    Args:
        images: Folder of the images, with folders train, val and test in it or without.
        masks: Folder of the masks, with the images' names.
        out: Folder of the run: the prepared data, config, log, checkpoints (without the frozen
            ViT). ``tools/train.py`` can resume the config, and other configs can inherit it.
        classes: File of the classes, a line each, or a list of their names; None: as found in the
            masks.
        backbone: The ViT's weights, ``timm:NAME`` or a file.
        method: A method of ``configs/_base_/prompters``, or frozen, lora, bias, partial-1, full;
            or 'auto': vpt-deep, lspt, lora and bias train a quarter as long on half of the
            training images, and the best on validation trains in full.
        head: 'linear', 'light', 'upernet', or 'paper'.
        labels: Meaning of the masks' values: 'indices', 'colors' or 'binary'; None: the only
            meaning that they allow.
        ignore: Numbers, colours or names of classes to ignore.
        mask_suffix: Text after the image's name in a mask's, such as ``'_mask'``.
        image_suffix: Text after the common name in an image's, such as ``'_leftImg8bit'``.
        exif: Where EXIF data turn photos, whether masks were drawn on them as 'shown' or as
            'stored'; None: as the sizes say.
        skip_unpaired: Leave out images and masks without a pair.
        val_share, test_share: Share of the images for validation and test, where there are no
            folders of them.
        seed: Of the split and the run.
        amp: Mixed precision.
        resume: Resume from the last checkpoint in ``out``, if there is one, with the same images.
        options: Further arguments of :class:`~lspt_mm.recipes.mask_folder.MaskRun` (iters,
            batch_size, crop, lr, ...), and with dots any key of the config
            (``{'train_cfg.val_interval': 100}``).
        verbose: Print MMEngine's log instead of one line of progress.

    Returns:
        Run: The trained run, as ``lspt_mm.load`` gives it.

    Raises:
        InputError: For data, a ViT or a value that cannot be used, before anything is trained; if
            ``out`` has a run and not ``resume``.
    """
    shares = dict(val_share=val_share, test_share=test_share)
    how = dict(seed=seed, amp=amp, resume=resume, verbose=verbose)
    _check_values(
        dict(images=images, masks=masks, out=out, backbone=backbone,
             classes=None if isinstance(classes, (list, tuple)) else classes),
        shares, method, SEGMENTATION_METHODS, options, skip_unpaired=skip_unpaired, **how,
        further=[
            (check_choice, 'labels', labels, (None, *LABELS)),
            (check_choice, 'exif', exif, (None, 'shown', 'stored')), (_check_ignore, ignore),
            (_check_text, 'mask_suffix', mask_suffix), (_check_text, 'image_suffix', image_suffix),
        ],
    )
    out = _path(out)
    arguments = dict(
        data=str(out / DATA), pretrained=str(backbone), method=method, head=head, seed=int(seed)
    )
    begun = _begin(out, images, mask_run, arguments, options, resume)
    with locked_work_dir(out):  # before its data are written
        found = prepare_masks(
            _path(images), _path(masks), out / DATA, classes=_path(classes), labels=labels,
            ignore=ignore, mask_suffix=mask_suffix, image_suffix=image_suffix, exif=exif,
            skip_unpaired=skip_unpaired, **shares, seed=seed, overwrite=not begun,
            keep_lists=begun,
        )
        print(found.table)
        for remark in found.remarks:
            print(f'note: {remark}')
        return _trained('maskfolder/transfer.py', out, arguments, options, **how)


@any_image_size()
def train_classification(
    images: _Path,
    out: _Path,
    labels: Optional[_Path] = None,
    backbone: str = DEFAULT_BACKBONE,
    method: str = 'lspt',
    val_share: float = 0.2,
    test_share: float = 0.0,
    seed: int = 0,
    amp: bool = False,
    resume: bool = False,
    options: Optional[Mapping[str, Any]] = None,
    verbose: bool = False,
) -> Run:
    """Tune a ViT on images with labels; the same run as ``configs/imagefolder/transfer.py``.

    Args:
        images: Folder with a folder for each class; or with folders ``train`` and perhaps ``val``
            and ``test`` that have these; or, with ``labels``, any folder of images.
        out: As in :func:`train_segmentation`.
        labels: Table (CSV) of labels: columns image and label (several between ``|`` or ``;``), or
            image and a column of 0 and 1 for each class
            (:func:`~lspt_mm.converters.label_file.read_label_file`). If an image has none or
            several, the run is multi-label: a sigmoid for each class, macro F1 as its metric.
        backbone: The ViT's weights, ``timm:NAME`` or a file.
        method: A method of ``configs/_base_/prompters``, or linear, lora, bias, partial-1, full;
            or 'auto', as in :func:`train_segmentation`.
        val_share, test_share: Share of each class for validation and test, where the data define
            no such split.
        seed: Of the split and the run.
        amp: Mixed precision.
        resume: Resume from the last checkpoint in ``out``, if there is one, with the same images.
        options: Further arguments of :class:`~lspt_mm.recipes.Experiment` (epochs, batch_size,
            img_size, lr, balance, ...), and with dots any key of the config.
        verbose: Print MMEngine's log instead of one line of progress.

    Returns:
        Run: The trained run, as ``lspt_mm.load`` gives it.

    Raises:
        InputError: For data, a ViT or a value that cannot be used, before anything is trained; if
            ``out`` has a run and not ``resume``.
    """
    how = dict(seed=seed, amp=amp, resume=resume, verbose=verbose)
    _check_values(
        dict(images=images, out=out, labels=labels, backbone=backbone),
        dict(val_share=val_share, test_share=test_share), method, METHODS, options, **how,
    )
    out = _path(out)
    arguments = dict(task=str(out / DATA), pretraining=str(backbone), method=method)
    resolve = partial(resolve_experiment, 'imagefolder')
    begun = _begin(out, images, resolve, arguments, options, resume)
    with locked_work_dir(out):
        print(prepare_image_folder(
            _path(images), out / DATA, labels=_path(labels), seed=seed, test_share=test_share,
            usual_share=val_share, overwrite=not begun, keep_lists=begun,
        ))
        return _trained('imagefolder/transfer.py', out, arguments, options, **how)


def _check_values(
    paths: Mapping[str, Any], shares: Mapping[str, Any], method: Any, methods: Collection[str],
    options: Any, seed: Any, further: Sequence[tuple] = (), **flags,
) -> None:
    """Raise one InputError for all invalid values; ``further`` are checks of check_all."""
    check_all([
        *((_check_path, *one) for one in paths.items()),
        *((check_share, *one) for one in shares.items()),
        *((check_bool, *one) for one in flags.items()),
        (check_int, 'seed', seed, 0), (_check_method, method, [*methods, AUTO]),
        (_check_options, options), *further,
    ])


def _check_path(name: str, value: Any) -> None:
    if isinstance(value, (str, os.PathLike)) or (value is None and name in ('labels', 'classes')):
        return
    hint = ' or a list of names' if name == 'classes' else ''
    hint += '; save it by to_csv(index=False)' if hasattr(value, 'to_csv') else ''
    raise ValueError(f'{name}: {type(value).__name__}, expected a path{hint}')


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name}={value!r}: expected a text, such as '_mask', or '' for none")


def _check_ignore(ignore: Any) -> None:
    """Raise ValueError for what is no number, colour or name, and for a colour as a tuple."""
    values = [ignore] if isinstance(ignore, (str, Integral)) else ignore
    if isinstance(values, Collection) and all(
        isinstance(one, (str, Integral)) and not isinstance(one, bool) for one in values
    ):
        numbers = [one for one in values if isinstance(one, Integral)]
        if len(set(numbers)) == len(numbers):
            return
    raise ValueError(
        f"ignore={ignore!r}: expected a number, a colour such as '#000000' or '0,0,0', the name of "
        'a class, or a list of these, each number once'
    )


def _check_method(method: Any, known: Collection[str]) -> None:
    if method not in known:
        raise ValueError(f'method={method!r}: {did_you_mean(str(method), known)}')


def _check_options(options: Any) -> None:
    if options is not None and not (
        isinstance(options, Mapping) and all(isinstance(name, str) for name in options)
    ):
        raise ValueError(f"options={options!r}: expected a dict, such as {{'batch_size': 4}}")


def _path(value: Any) -> Any:
    """A path with its ~ expanded; None and a list of names as they are."""
    return Path(value).expanduser() if isinstance(value, (str, os.PathLike)) else value


def _begin(
    out: Path, images: _Path, resolve: Callable[..., Any], arguments: Dict[str, Any],
    options: Optional[Mapping[str, Any]], resume: bool,
) -> bool:
    """Check what needs no data, make ``out``, and return whether it has a run, to be resumed.

    Args:
        out: Folder of the run.
        images: Folder that it must not lie in.
        resolve: Raises InputError for arguments that the recipe refuses.
        arguments: Of the recipe.
        options: Further ones, and keys of the config.
        resume: Whether a run in ``out`` is to be resumed.
    """
    found = next((path for folder in (out, *sorted(out.glob('auto/*')))
                  for path in sorted(folder.glob('*.pth'))), None)
    if found is not None:
        check_resumed(out, f'checkpoint {found.name}', resume)
    if _path(images).resolve() in (out.resolve(), *out.resolve().parents):
        raise InputError(f'out={out} lies in the images {images}: name a folder outside it')
    given = {name: value for name, value in (options or {}).items() if '.' not in name}
    for name in given:
        if name in (*arguments, 'seed'):
            raise InputError(f'options: {name} is an argument of its own')
    _check_weights(**arguments)
    method = arguments['method']
    for name in CANDIDATES if method == AUTO else (method,):
        resolve(**{**arguments, **given, 'method': name})
    check_writable(out, f'out={out}', '; name another folder')
    return found is not None


def check_resumed(out: Path, what: str, resume: bool) -> None:
    """Raise InputError unless ``resume`` is set; ``what`` is the file that shows there is a run."""
    if not resume:
        raise InputError(
            f'{out} has a run ({what}); resume=True (--resume on the command line) continues it, '
            'or name another folder'
        )


def _check_weights(pretraining: str = '', pretrained: str = '', **_) -> None:
    """Raise InputError for a file that does not exist.

    Configs may name such files, to be read before they are fetched.
    """
    from timm.models import is_model_pretrained

    backbone, known = pretraining or pretrained, PRETRAININGS.get(pretraining)
    absent = absent_file(known.pretrained if known else ALIASES.get(backbone, backbone))
    if absent is None:
        return
    if known:
        raise InputError(f'backbone={backbone!r}: {absent} does not exist; it is {known.source}')
    hint = f'expected {TIMM}NAME, a file, a URL, or one of {", ".join(ALIASES)}'
    if is_model_pretrained(backbone):
        hint = f'did you mean {TIMM}{backbone}?'
    raise InputError(f'backbone={backbone!r}: no such file; {hint}')


def _trained(
    config: str, out: Path, arguments: Dict[str, Any], options: Optional[Mapping[str, Any]],
    resume: bool, verbose: bool, **how,
) -> Run:
    """Train a config with arguments, and ``options`` that are arguments or keys of it."""
    options = dict(options or {})
    if arguments['method'] == AUTO:
        best = _best_method(config, out, arguments, options, resume, verbose, **how)
        arguments = {**arguments, 'method': best}
    cfg = run_config(config, out, arguments, options, **how)
    checkpoint = latest_checkpoint(str(out)) if resume else None
    if checkpoint is not None:
        cfg.resume, cfg.load_from = True, checkpoint
    train(cfg, progress=not verbose)
    return Run(out)


def run_config(
    name: str, out: Path, arguments: Dict[str, Any], options: Mapping[str, Any], seed: int,
    amp: bool,
) -> Config:
    """A config with arguments, and ``options`` that are arguments or keys of it, for ``out``."""
    options, seed = {key: _plain(value) for key, value in options.items()}, int(seed)
    keys = {key: value for key, value in options.items() if '.' in key}
    given = {key: value for key, value in options.items() if '.' not in key}
    cfg = read_config(name, {**arguments, **given})
    cfg.work_dir, cfg.launcher = str(out), 'none'
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    merge_options(cfg, keys)
    if amp:
        turn_on_amp(cfg)
    content = 'full' if arguments['method'] == 'full' else 'prompts'
    cfg.default_hooks.checkpoint.content = content
    return cfg


def _plain(value: Any) -> Any:
    """A number of NumPy's as Python's, which a config's file can have."""
    return value.item() if isinstance(value, np.generic) else value


def _best_method(
    config: str, out: Path, arguments: Dict[str, Any], options: Dict[str, Any], resume: bool,
    verbose: bool, **how,
) -> str:
    """The method of ``CANDIDATES`` that is best in a short run on half the images."""
    kept = out / 'auto' / 'methods.json'
    if resume and kept.is_file():
        return read_json(kept)['method']
    plain = run_config(config, out, {**arguments, 'method': CANDIDATES[0]}, options, **how)
    dataset, key = plain.train_dataloader.dataset, 'train_dataloader.dataset'
    while 'dataset' in dataset:
        dataset, key = dataset.dataset, f'{key}.dataset'
    count = len(read_json(Path(dataset.data_root) / dataset.ann_file))
    # Lists are sorted by class or by name: every second image is a fair half.
    part = {f'{key}.indices': list(range(0, count, 2))} if count >= _LEAST else {}
    epochs = plain.train_cfg.get('max_epochs')
    length = max(1, (epochs or plain.train_cfg.max_iters) // 4)
    part['epochs' if epochs else 'iters'] = length
    short = {key: value for key, value in options.items() if key != 'warmup'}  # of the whole length
    short.update(part)
    candidates = {name: {**arguments, 'method': name} for name in CANDIDATES}
    for own in candidates.values():  # before any of them is trained
        run_config(config, out, own, short, **how)
    scores: Dict[str, float] = {}
    for name, own in candidates.items():
        print(f'method={name}, {length} {"epochs" if epochs else "iterations"}', flush=True)
        run = _trained(config, out / 'auto' / name, own, short, resume=resume, verbose=verbose,
                       **how)
        scores[name] = run.metrics['value']
    best = max(scores, key=scores.get)
    write_json(kept, dict(method=best, metric=run.metrics['metric'], scores=scores))
    print(f'{run.metrics["metric"]} on the validation images: '
          + ', '.join(f'{name} {score:.2f}' for name, score in scores.items())
          + f'. Training continues with method={best}', flush=True)
    return best


def train(cfg: Config, check: bool = True, progress: bool = False) -> Runner:
    """Train a config, as ``tools/train.py`` does.

    Args:
        cfg: From :func:`lspt_mm.config.load.read_config`, with a ``work_dir`` and a ``launcher``.
        check: Read every file of the data first.
        progress: Show one live line (``ProgressHook``) instead of MMEngine's log.

    Returns:
        Runner: With the trained model.

    Raises:
        InputError: For inputs that are missing or damaged, and values that a class rejects.
    """
    # An empty val_cfg, as mmpretrain's, still validates.
    validates = cfg.get('val_cfg') is not None
    loaders = ('train_dataloader', 'val_dataloader') if validates else ('train_dataloader',)
    with warnings.catch_warnings():
        if progress:
            ignore_known_warnings()
        runner = build_runner(cfg, loaders)
        keep_freed_memory()
        hook = ProgressHook()
        if progress:
            runner.register_hook(hook)
        try:
            if check and runner.rank == 0:
                check_data(cfg, loaders)
        except BaseException:  # run() releases it otherwise
            runner.work_dir_lock.release()
            raise
        try:
            run(runner, runner.train)
        finally:
            hook.close()
    return runner
