"""Trains on tokens that were computed once, in place of the images of every epoch."""

from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.amp import autocast
from torch import nn, zeros
from torch.utils.data import DataLoader

from lspt_mm.engine.unwrapping import model_of
from lspt_mm.errors import InputError
from lspt_mm.models.prompted_backbone import Early, PromptedBackbone
from lspt_mm.probing.tokens import (
    KeptTokens,
    ReadTokens,
    check_deterministic,
    keep_tokens,
    leaves,
)
from lspt_mm.registry import HOOKS
from lspt_mm.tasks import task_of
from lspt_mm.utils.cache import CACHE
from lspt_mm.utils.seed import restore_rng

#: Arguments of a ViT that its first blocks do not depend on.
_WITHOUT_EFFECT = frozenset({
    'prompter', 'pretrained', 'init_cfg', 'with_cp', 'out_type', 'out_indices', 'final_norm',
})  # fmt: skip


@HOOKS.register_module()
class KeptTokensHook(Hook):
    """Computes the tokens that enter block ``start_block`` once, and trains on them.

    The blocks before the first prompts are the frozen ViT. If the pipeline draws no random
    numbers, their output is the same in every epoch. It is computed before the first iteration,
    for the images of training and validation, in the run's precision, and kept in a file of the
    cache (``LSPT_MM_CACHE``) that later runs read as well. No image is loaded after that. Order
    and random numbers of the run do not change.

    Losses and weights are those of a run without this hook, to the bit, where a row of a product
    does not depend on the other rows. The hook compares a batch with its images one by one; the
    log has the difference.

    A validation whose pipeline draws random numbers loads its images as usual. All processes read
    the file that the first one writes.

    Args:
        enable (bool): Whether to do so.

    Raises:
        InputError: Before training, with the reason, if it cannot be done.
    """

    priority = 'NORMAL'  # after hooks that read images of the training set

    def __init__(self, enable: bool = True):
        self.enable = enable
        self._templates: Dict[str, Early] = {}  # of a part of the data, with tokens of one image

    def before_train(self, runner: Runner) -> None:  # noqa: D102
        if not self.enable or self._templates:
            return
        try:
            check_keeps_tokens(runner)
            self._replace(runner, 'train', runner.train_dataloader)
            if runner.val_loop is not None:
                self._replace(runner, 'val', runner.val_loop.dataloader)
        except InputError as error:
            raise InputError(f'KeptTokensHook: {error}') from error
        model_of(runner).data_preprocessor.register_forward_hook(self._insert)

    def _insert(self, module: nn.Module, args: tuple, output: dict) -> dict:
        """Put the kept tokens of a batch in the place of its images."""
        batch = args[0]
        if 'tokens' in batch:
            template = self._templates[batch['part'][0]]
            tokens = torch.stack(tuple(batch['tokens'])).to(template.embedded.tokens.device)
            output['inputs'] = template._replace(
                embedded=template.embedded._replace(tokens=tokens)
            )
        return output

    def _replace(self, runner: Runner, part: str, loader: DataLoader) -> None:
        """Make the loader of a part of the data read tokens."""
        try:
            for dataset in leaves(loader.dataset):
                check_deterministic(dataset)
        except InputError as error:
            if part == 'val':
                runner.logger.info(f'the validation loads its images: {error}')
                return
            raise InputError(f'{part}_dataloader: {error}') from error
        model = model_of(runner)
        for number, dataset in enumerate(leaves(loader.dataset)):
            with restore_rng(), _as_in(runner, part):
                shared = [None]
                if is_main_process():
                    shared = [keep_tokens(
                        dataset, model, _settings(runner, part, number), loader.batch_size,
                        loader.num_workers,
                    )]  # fmt: skip
                broadcast_object_list(shared)
                kept: KeptTokens = shared[0]
                if not Path(kept.path).is_file():
                    raise InputError(
                        f'{kept.path}, written by the first process, is not there on this machine; '
                        f'set {CACHE} to a folder that all machines share'
                    )
                device = next(model.parameters()).device
                with torch.no_grad():
                    template = model.backbone.early(zeros(1, 3, *kept.size, device=device), 0)
            known = self._templates.setdefault(
                part, template._replace(number=model.backbone.prompter.start_block - 1)
            )
            if known.embedded.hw != template.embedded.hw:
                raise InputError(f'{part}_dataloader: its data sets have images of several sizes')
            dataset.pipeline = ReadTokens(kept.path, part, dataset.pipeline.transforms[-1])
            self._report(runner, part, kept)

    @staticmethod
    def _report(runner: Runner, part: str, kept: KeptTokens) -> None:
        line = f'{part}: tokens are read from {kept.path}'
        if kept.difference:
            runner.logger.warning(
                f'{line}. On this machine they depend on the batch, by up to '
                f'{kept.difference:.1e}: the run is not equal to the bit to one without them'
            )
        else:
            runner.logger.info(f'{line}; they do not depend on the batch')


@contextmanager
def _as_in(runner: Runner, part: str) -> Iterator[None]:
    """Model and precision as they are in training or validation."""
    model = model_of(runner)
    mode = model.training
    if part == 'train':
        precision = runner.optim_wrapper.optim_context(runner.model)
    else:
        precision = autocast(enabled=getattr(runner.val_loop, 'fp16', False))
    model.train(part == 'train')
    try:
        with precision:
            yield
    finally:
        model.train(mode)


def _settings(runner: Runner, part: str, number: int) -> list:
    """What the images of data set ``number`` of a loader, and their tokens, follow from."""
    cfg = runner.cfg
    vit = {k: v for k, v in cfg.model.backbone.items() if k not in _WITHOUT_EFFECT}
    preprocessors = cfg.get('data_preprocessor'), cfg.model.get('data_preprocessor')
    return [repr(vit), repr(preprocessors), repr(cfg[f'{part}_dataloader'].dataset), number]


def check_keeps_tokens(runner: Runner) -> None:
    """Raise InputError, with the reason, if a run's model or training cannot use kept tokens."""
    model, task = model_of(runner), task_of(runner.cfg)
    vit = getattr(model, 'backbone', None)
    if task.dense:
        raise InputError(f'{task.name}: images are cut into windows; only for classification')
    if not isinstance(vit, PromptedBackbone) or vit.prompter is None:
        raise InputError('the model has no prompts; expected a backbone with a prompter')
    if vit.tune != 'prompts':
        raise InputError(
            f"tune={vit.tune!r}: the blocks before the prompts must stay as they are; expected "
            "tune='prompts'"
        )
    start = vit.prompter.start_block
    if start == 1:
        raise InputError(
            'prompter.start_block=1: no block comes before the prompts; expected 2 or more'
        )
    before = [number for number in vit.out_indices if number + 1 < start]
    if before:
        raise InputError(
            f'out_indices {before} are outputs of blocks before start_block={start}, and only the '
            'tokens that enter it are kept'
        )
    if any(vit.prompter.observes(number) for number in range(1, start)):
        raise InputError(
            f'{type(vit.prompter).__name__} reads tokens of blocks before start_block={start}'
        )
    if getattr(model.data_preprocessor, 'batch_augments', None) is not None:
        raise InputError('batch_augments mixes images at random; remove it')
    if runner.cfg.train_cfg.get('skip_bad', 0):
        raise InputError('train_cfg.skip_bad: unreadable files have no tokens; set it to 0')
