"""From a config and a checkpoint, full or prompt-only, to mmseg's or mmpretrain's inferencer."""

from pathlib import Path
from typing import Optional, Union

import torch
from mmengine.config import Config

from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.config.load import read_config
from lspt_mm.config.preflight import check_vit_file
from lspt_mm.engine.hooks.prompt_checkpoint_hook import check_fit
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import check_device


def inferencer_of(
    config: Union[str, Config],
    checkpoint: str,
    device: Optional[str] = None,
    pretrained: Optional[str] = None,
):
    """mmseg's ``MMSegInferencer`` or mmpretrain's ``ImageClassificationInferencer`` of a run.

    They can be built without this function, too; it adds what they lack: configs of this package by
    name and with arguments, ``pretrained``, test pipelines that load by ``lspt_mm.LoadImage``, and
    a check that the checkpoint is of this config's run, where they would leave parts at random
    with a warning.

    Args:
        config: A config, its path, or a name as ``tools/train.py`` takes it.
        checkpoint: Path of the checkpoint, full or prompt-only.
        device: Such as 'cpu' or 'cuda:0'; by default a GPU if there is one.
        pretrained: Prompt-only checkpoints: file of the ViT, instead of the config's.

    Raises:
        InputError: If a file is missing or does not fit, or the device is not there.
    """
    cfg = config if isinstance(config, Config) else read_config(str(config))
    if not Path(checkpoint).is_file():
        raise InputError(f'checkpoint {checkpoint}: no such file')
    if pretrained:
        check_vit_file(pretrained)
        cfg.model.backbone.pretrained = pretrained
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    check_device(device)
    scope = cfg.get('default_scope')
    try:
        if scope == 'mmseg':
            found = _of_mmseg(cfg, str(checkpoint), device)
        elif scope == 'mmpretrain':
            found = _of_mmpretrain(cfg, str(checkpoint), device)
        else:
            raise InputError(
                f"the config's default_scope is {scope!r}, expected 'mmseg' or 'mmpretrain'"
            )
    except InputError as error:
        raise InputError(f'{checkpoint}: {error}') from error
    try:
        check_fit(found.model, read_checkpoint(str(checkpoint)))
    except InputError as error:
        raise InputError(f'{checkpoint}: {error}') from error
    found.show_progress = False
    return found


def _of_mmseg(cfg: Config, checkpoint: str, device: str):
    from mmseg.apis import MMSegInferencer

    if cfg.get('visualizer'):
        cfg.visualizer.vis_backends = []  # of a run's log, which this is none
    for step in cfg.test_dataloader.dataset.pipeline:
        if str(step.get('type')).split('.')[-1] == 'LoadImage':
            step['type'] = 'LoadImageFromFile'  # the name that it looks for, to put its own there
    return MMSegInferencer(cfg, checkpoint, device=device)


def _of_mmpretrain(cfg: Config, checkpoint: str, device: str):
    from mmengine.registry import init_default_scope
    from mmpretrain.apis import ImageClassificationInferencer

    init_default_scope('mmpretrain')
    return ImageClassificationInferencer(cfg, pretrained=checkpoint, device=device)
