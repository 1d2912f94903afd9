"""From a folder of images, with masks or labels, to a trained run, in one call."""

from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Union

from mmengine.config import Config

from lspt_mm.apis.run import Run
from lspt_mm.config.cfg_options import merge_options
from lspt_mm.config.load import read_config, turn_on_amp
from lspt_mm.converters.image_folder import prepare_image_folder
from lspt_mm.converters.masks import prepare_masks
from lspt_mm.datasets.verify import check_data
from lspt_mm.engine.runner import build_runner, run
from lspt_mm.engine.work_dir import latest_checkpoint
from lspt_mm.errors import InputError
from lspt_mm.utils.malloc import keep_freed_memory

#: Folder of the prepared data, below a run's.
DATA = 'data'
_Path = Union[str, Path]


def train_segmentation(
    images: _Path,
    masks: _Path,
    out: _Path,
    classes: Optional[_Path] = None,
    backbone: str = 'timm:vit_small_patch14_dinov2.lvd142m',
    method: str = 'lspt',
    head: str = 'upernet',
    labels: Optional[str] = None,
    ignore: Sequence[str] = (),
    val_share: float = 0.2,
    test_share: float = 0.0,
    seed: int = 0,
    amp: bool = False,
    resume: bool = False,
    options: Optional[Mapping[str, Any]] = None,
) -> Run:
    """Tune a ViT on images and masks; the same run as ``configs/maskfolder/transfer.py``.

    Args:
        images: Folder of the images, with folders train, val and test in it or without.
        masks: Folder of the masks, of the images' names.
        out: Folder of the run: the prepared data, config, log, checkpoints (without the frozen
            ViT). The config trains on with ``tools/train.py`` and can be inherited.
        classes: File of the classes, a line each; None: what the masks hold.
        backbone: The ViT's weights, ``timm:NAME`` or a file.
        method: A method of ``configs/_base_/prompters``, or frozen, lora, bias, partial-1, full.
        head: 'linear', 'light', 'upernet', or 'paper'.
        labels: What the values of masks are: 'indices', 'colors' or 'binary'; None: the only
            reading that they allow.
        ignore: Numbers, colours or names of classes that count for nothing.
        val_share, test_share: Share of the images for validation and test, without folders of them.
        seed: Of the split and the run.
        amp: Mixed precision.
        resume: Go on from the last checkpoint in ``out``, if there is one.
        options: Further arguments of :class:`~lspt_mm.recipes.mask_folder.MaskRun` (iters,
            batch_size, crop, lr, ...), and with dots any key of the config
            (``{'train_cfg.val_interval': 100}``).

    Returns:
        Run: The trained run, as ``lspt_mm.load`` gives it.

    Raises:
        InputError: For data, a ViT or a value that cannot be used; before anything is trained.
    """
    out = Path(out)
    found = prepare_masks(
        Path(images), Path(masks), out / DATA, classes=None if classes is None else Path(classes),
        labels=labels, ignore=list(ignore), val_share=val_share, test_share=test_share, seed=seed,
    )  # fmt: skip
    print(found.table)
    for remark in found.remarks:
        print(f'note: {remark}')
    arguments = dict(
        data=str(out / DATA), pretrained=str(backbone), method=method, head=head, seed=seed
    )
    return _trained('maskfolder/transfer.py', out, arguments, options, seed, amp, resume)


def train_classification(
    images: _Path,
    out: _Path,
    labels: Optional[_Path] = None,
    backbone: str = 'timm:vit_small_patch14_dinov2.lvd142m',
    method: str = 'lspt',
    val_share: float = 0.2,
    test_share: float = 0.0,
    seed: int = 0,
    amp: bool = False,
    resume: bool = False,
    options: Optional[Mapping[str, Any]] = None,
) -> Run:
    """Tune a ViT on images with labels; the same run as ``configs/imagefolder/transfer.py``.

    Args:
        images: Folder with a folder for each class; or with folders train, and val and test or not,
            that have these; or, with ``labels``, any folder of images.
        out: As of :func:`train_segmentation`.
        labels: Table (CSV) of labels: columns image and label (several between ``|`` or ``;``), or
            image and a column of 0 and 1 for each class
            (:func:`~lspt_mm.converters.label_file.read_label_file`). If an image has none or
            several, the run is multi-label: a sigmoid for each class, macro F1 as its metric.
        backbone: The ViT's weights, ``timm:NAME`` or a file.
        method: A method of ``configs/_base_/prompters``, or linear, lora, bias, partial-1, full.
        val_share, test_share: Share of each class for validation and test, where nothing says which
            images they have.
        seed: Of the split and the run.
        amp: Mixed precision.
        resume: Go on from the last checkpoint in ``out``, if there is one.
        options: Further arguments of :class:`~lspt_mm.recipes.Experiment` (epochs, batch_size,
            img_size, lr, balance, ...), and with dots any key of the config.

    Returns:
        Run: The trained run, as ``lspt_mm.load`` gives it.

    Raises:
        InputError: For data, a ViT or a value that cannot be used; before anything is trained.
    """
    out = Path(out)
    print(prepare_image_folder(
        Path(images), out / DATA, labels=None if labels is None else Path(labels), seed=seed,
        test_share=test_share, usual_share=val_share,
    ))  # fmt: skip
    arguments = dict(task=str(out / DATA), pretraining=str(backbone), method=method)
    return _trained('imagefolder/transfer.py', out, arguments, options, seed, amp, resume)


def _trained(
    config: str, out: Path, arguments: Dict[str, Any], options: Optional[Mapping[str, Any]],
    seed: int, amp: bool, resume: bool,
) -> Run:  # fmt: skip
    """Train a config with arguments, and ``options`` that are arguments or keys of it."""
    given = dict(options or {})
    keys: Dict[str, Any] = {}
    for name in list(given):
        if name in (*arguments, 'seed'):
            raise InputError(f'options: {name} is an argument of its own')
        if '.' in name:
            keys[name] = given.pop(name)
    cfg = read_config(config, {**arguments, **given})
    cfg.work_dir, cfg.launcher = str(out), 'none'
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    merge_options(cfg, keys)
    if amp:
        turn_on_amp(cfg)
    cfg.default_hooks.checkpoint.content = 'prompts'
    checkpoint = latest_checkpoint(str(out)) if resume else None
    if checkpoint is not None:
        cfg.resume, cfg.load_from = True, checkpoint
    train(cfg)
    return Run(out)


def train(cfg: Config, check: bool = True) -> None:
    """Train a config, as ``tools/train.py`` does.

    Args:
        cfg: From :func:`lspt_mm.config.load.read_config`, with a ``work_dir`` and a ``launcher``.
        check: Read every file of the data first.

    Raises:
        InputError: For inputs that are missing or damaged, and values that a class rejects.
    """
    # An empty val_cfg, as mmpretrain's, still validates.
    validates = cfg.get('val_cfg') is not None
    loaders = ('train_dataloader', 'val_dataloader') if validates else ('train_dataloader',)
    runner = build_runner(cfg, loaders)
    if check and runner.rank == 0:
        check_data(cfg, loaders)
    keep_freed_memory()
    run(runner, runner.train)
