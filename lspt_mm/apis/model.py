"""Build a model from a config and a checkpoint; each file is read once, mismatches are errors."""

import os
import warnings
from pathlib import Path
from typing import Callable, Optional, Tuple, Union

from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.checkpoints.prompt_only import check_fit
from lspt_mm.checkpoints.records import RANDOM, records_in, records_in_meta
from lspt_mm.config.load import apply_common_options, read_config
from lspt_mm.config.preflight import check_vit_file
from lspt_mm.engine.runner import build_runner
from lspt_mm.engine.unwrapping import unwrapped
from lspt_mm.engine.work_dir import find_config_and_checkpoint
from lspt_mm.errors import InputError
from lspt_mm.registry import takes_prompts
from lspt_mm.tasks import task_of
from lspt_mm.utils.cli import check_device, ignore_known_warnings
from lspt_mm.utils.overlay import colours_of
from lspt_mm.utils.safe_load import force_weights_only
from lspt_mm.utils.text import shorten


def init_model(
    config: Union[str, Path, Config],
    checkpoint: Union[str, Path, None] = None,
    pretrained: Union[str, Path, None] = None,
    device: Optional[str] = None,
    cfg_options: Optional[dict] = None,
) -> nn.Module:
    """Build the model of a config, load a checkpoint into it, and put it in eval mode.

    mmseg's ``init_model`` and mmpretrain's ``get_model`` load such checkpoints as well, but leave
    missing weights random, with a line in the log.

    Args:
        config: A run's folder; or a config (it stays as it is), its path, or a name as
            ``tools/train.py`` takes it.
        checkpoint: Path or URL of the checkpoint, full or prompt-only; ``#sha256=...`` after it is
            checked. Of a run's folder: a name in it or a path; None: the last one.
        pretrained: Prompt-only checkpoints: file of the ViT's weights, instead of the config's.
        device: Device of the model; None: a GPU if there is one.
        cfg_options: Values of the config to change, by dotted key, as ``--cfg-options``.

    Returns:
        nn.Module: With the attributes ``cfg``; ``dataset_meta``, a dict of ``classes`` (names) and
        ``palette`` (RGB of each); ``checkpoint_meta``, the ``meta`` of the checkpoint, whose
        ``iter`` is the iteration it was written at; and ``random_backbone``, whether the
        checkpoint says that it was trained on a ViT of random weights.

    Raises:
        InputError: If a file is missing or damaged, the device is not there, the model has no
            :class:`~lspt_mm.models.PromptedViT` or cannot be built, or the checkpoint does not fit.
    """
    device = check_device(device)
    if isinstance(config, Config):
        cfg = Config(config.to_dict(), filename=config.filename)
    else:
        if os.path.isdir(os.path.expanduser(str(config))):
            config, checkpoint = run_files(config, checkpoint)
        if checkpoint is None:
            raise InputError(
                f"{config}: expected a checkpoint after a config, or a run's folder alone"
            )
        cfg = read_config(str(config))
    apply_common_options(cfg, cfg_options, None)
    check_is_prompted(cfg)
    content = read_model_checkpoint(cfg, checkpoint, pretrained)
    task, name = task_of(cfg), cfg.filename or 'the config'
    try:
        with warnings.catch_warnings():
            ignore_known_warnings()
            model = task.build(cfg)
    except Exception as error:  # whatever the config's classes raise
        raise InputError(
            f'{name}: the model cannot be built: {type(error).__name__}: {error}'
        ) from error
    load_content(model, content, str(checkpoint))
    meta = content.get('meta') or {}
    state = content.get('state_dict', content)
    records = [*records_in(state).values(), *records_in_meta(meta).values()]
    data = meta.get('dataset_meta') or {}
    if device.type == 'cpu':
        model = revert_sync_batchnorm(model)
    classes = task.class_names(model, data.get('classes'))
    model.cfg = cfg
    model.dataset_meta = {
        'classes': classes, 'palette': colours_of(len(classes), data.get('palette'))
    }
    model.checkpoint_meta = meta
    model.random_backbone = any(record.source == RANDOM for record in records)
    return model.to(device).eval()


def run_files(
    folder: Union[str, Path], checkpoint: Union[str, Path, None] = None
) -> Tuple[str, str]:
    """The config in a run's folder, and its last checkpoint or the given one.

    Args:
        folder: The run's work dir.
        checkpoint: Its name in the folder, or a path.

    Raises:
        InputError: If there is no config or no such checkpoint.
    """
    if not isinstance(folder, (str, os.PathLike)):
        raise InputError(f'{folder!r}: expected the work dir of a run, as a path')
    folder = Path(os.path.expanduser(folder))
    config, last = find_config_and_checkpoint(folder)
    if checkpoint is None:
        return config, last
    given = Path(os.path.expanduser(checkpoint))
    for path in (folder / given, given):
        if path.is_file():
            return config, str(path)
    inside = ', '.join(sorted(path.name for path in folder.glob('*.pth')))
    raise InputError(f'{checkpoint}: no such checkpoint file; those in {folder}: {inside}')


def read_model_checkpoint(
    cfg: Config, checkpoint: Union[str, Path], pretrained: Union[str, Path, None] = None
) -> dict:
    """Read a checkpoint, and write ``pretrained`` into the config.

    Raises:
        InputError: If one of the files is missing, or the checkpoint cannot be read.
    """
    force_weights_only()
    if pretrained:
        pretrained = os.fspath(pretrained)
        check_vit_file(pretrained)
        cfg.model.backbone.update(pretrained=pretrained, init_cfg=None)
    return read_checkpoint(str(checkpoint))


def load_content(model: nn.Module, content: dict, checkpoint: str) -> None:
    """Load a checkpoint's content into a model, all of it or nothing.

    Args:
        model: May be inside wrappers for processes and test-time augmentation.
        content: From :func:`read_model_checkpoint`.
        checkpoint: Where it came from, for messages.

    Raises:
        InputError: If the content belongs to another model, or lacks weights.
    """
    model = unwrapped(model)
    state = content.get('state_dict', content)
    try:
        check_fit(model, content)
        consume_prefix_in_state_dict_if_present(state, 'module.')
        missing = model.load_state_dict(state, strict=False).missing_keys
    except InputError as error:
        raise InputError(f'{checkpoint}: {error}') from error
    except RuntimeError as error:  # PyTorch's, for shapes
        raise InputError(f'{checkpoint}: the checkpoint does not fit the model: {error}') from error
    if missing:
        raise InputError(f'{checkpoint}: lacks weights of the model, which would be random: '
                         f'{shorten(missing)}')


def build_test_runner(
    cfg: Config, checkpoint: str, pretrained: Union[str, Path, None] = None,
    change: Optional[Callable[[Config], None]] = None,
) -> Runner:
    """Build a Runner whose ``test`` is ready to run, as in ``tools/test.py``.

    Args:
        cfg: From :func:`lspt_mm.config.load.read_config`, with a ``work_dir`` and a ``launcher``.
        checkpoint: Full or prompt-only.
        pretrained: File of the ViT's weights, instead of the config's.
        change: Called with the config to change it, after the checkpoint was read.

    Raises:
        InputError: For inputs that are missing or damaged, and values that a class rejects.
    """
    content = read_model_checkpoint(cfg, checkpoint, pretrained)
    cfg.load_from, cfg.resume = checkpoint, False
    if change is not None:
        change(cfg)
    runner = build_runner(cfg, ('test_dataloader',), checkpoint_read=True)

    def load_checkpoint(filename: str, *_, **__) -> dict:
        """Load this content instead of the file; call the hooks as MMEngine does."""
        runner.call_hook('after_load_checkpoint', checkpoint=content)
        load_content(runner.model, content, filename)
        del runner.load_checkpoint  # and with it the content
        return content

    runner.load_checkpoint = load_checkpoint
    return runner


def check_is_prompted(cfg: Config) -> None:
    """Raise InputError if the config's model has no prompted ViT, as in pre-training."""
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    if not takes_prompts(backbone):
        name = cfg.filename or 'the config'
        raise InputError(f'{name}: its model has no lspt_mm.PromptedViT as backbone')
