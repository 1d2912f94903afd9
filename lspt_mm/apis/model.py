"""Tuned models to look at and to use: from a config and a checkpoint, or the work dir of a run."""

from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.checkpoints.prompt_only import RANDOM, records_in
from lspt_mm.config.preflight import check_vit_file
from lspt_mm.engine.hooks.prompt_checkpoint_hook import check_fit, records_in_meta
from lspt_mm.errors import InputError
from lspt_mm.registry import takes_prompts
from lspt_mm.utils.cli import check_device
from lspt_mm.utils.safe_load import force_weights_only


class Tuned(NamedTuple):
    """A model with its checkpoint in it.

    ``model``: mmseg's or mmpretrain's, in eval mode. ``meta``: of the data it was trained on.
    ``iteration``: of the checkpoint, None where it does not say. ``random``: whether its run was on
    a ViT of random weights, as far as the checkpoint says.
    """

    model: nn.Module
    meta: dict
    iteration: Optional[int]
    random: bool


def load_tuned(
    cfg: Config, checkpoint, pretrained: Optional[str] = None, device: str = 'cpu'
) -> Tuned:
    """The model of a config with a full or prompt-only checkpoint in it.

    It is built by mmseg's ``init_model`` or mmpretrain's ``get_model``, after which parts that the
    checkpoint lacks would be random with a line in the log; here that is an error.

    Args:
        cfg: The run's config; it stays as it is.
        checkpoint: Path.
        pretrained: File of the ViT's weights, instead of the config's, for prompt-only checkpoints.
        device: Where the model is to be.

    Raises:
        InputError: If the device is not there, the model has no :class:`PromptedViT`, it cannot be
            built, or the checkpoint does not fit.
    """
    force_weights_only()
    check_device(device)
    if not Path(checkpoint).is_file():
        raise InputError(f'checkpoint {checkpoint} does not exist')
    cfg, name = Config(cfg.to_dict(), filename=cfg.filename), cfg.filename or 'the config'
    check_is_prompted(cfg)
    if pretrained:
        check_vit_file(pretrained)
        cfg.model.backbone.pretrained = pretrained
    content = read_checkpoint(str(checkpoint))
    try:
        model = _build(cfg, str(checkpoint), device)
        check_fit(model, content)
    except InputError as error:
        raise InputError(f'{checkpoint}: {error}') from error
    except Exception as error:  # whatever the config's classes and loaders raise
        raise InputError(
            f'{name} with {checkpoint}: the model cannot be built: {type(error).__name__}: {error}'
        ) from error
    meta = content.get('meta') or {}
    records = [*records_in(content.get('state_dict', content)).values(),
               *records_in_meta(meta).values()]  # fmt: skip
    return Tuned(
        model.eval(), meta.get('dataset_meta') or {}, meta.get('iter'),
        any(record.source == RANDOM for record in records),
    )  # fmt: skip


def check_is_prompted(cfg: Config) -> None:
    """Raise InputError if the config's model is none of ours, such as that of a pre-training."""
    backbone = (cfg.get('model') or {}).get('backbone') or {}
    if not takes_prompts(backbone):
        name = cfg.filename or 'the config'
        raise InputError(f'{name}: its model has no lspt_mm.PromptedViT as backbone')


def takes_rgb(preprocessor: nn.Module) -> bool:
    """Whether a data preprocessor turns its images' BGR, as OpenCV reads them, to RGB."""
    # Three names of it: mmpretrain's, mmseg's and mmengine's.
    names = ('to_rgb', 'channel_conversion', '_channel_conversion')
    return any(getattr(preprocessor, name, False) for name in names)


def class_names(model: nn.Module, given: Optional[Sequence[str]] = None) -> List[str]:
    """Names of a model's classes: those given, those it was trained on, or else numbers.

    Names that are not as many as the model's head has classes are not taken.
    """
    head = getattr(model, 'decode_head', None) or getattr(model, 'head', None)
    count = getattr(head, 'num_classes', None)
    meta = getattr(model, 'dataset_meta', None) or {}
    for names in (given, meta.get('classes')):
        if names and count in (None, len(names)):
            return [str(name) for name in names]
    return [f'class {number}' for number in range(count or 0)]




def _build(cfg: Config, checkpoint: str, device: str) -> nn.Module:
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    if cfg.get('default_scope') == 'mmpretrain':
        from mmpretrain.apis import get_model

        return get_model(cfg, pretrained=checkpoint, device=device)
    from mmseg.apis import init_model

    return init_model(cfg, checkpoint, device=device)


