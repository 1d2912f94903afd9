"""Hook for data-dependent initialisation of prompts."""

import itertools
from typing import Iterator, List, Optional, Tuple

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import Tensor

from lspt_mm.engine.hooks.backbone_weights_hook import prompted_vits
from lspt_mm.engine.hooks.prompter_hook import check_prompter_hook
from lspt_mm.engine.unwrapping import model_of
from lspt_mm.errors import InputError
from lspt_mm.models.prompted_backbone import PromptedBackbone
from lspt_mm.probing.features import items
from lspt_mm.registry import HOOKS
from lspt_mm.tasks import task_of
from lspt_mm.utils.checks import check_int
from lspt_mm.utils.seed import isolate_rng


@HOOKS.register_module()
class PromptInitHook(Hook):
    """Before the first iteration, initialise prompters that need the ViT and data (BPT, SPT).

    Rank 0 draws training images through the training pipeline and the data preprocessor,
    initialises the prompter from them, and broadcasts the result to the other ranks. Every
    checkpoint holds the result, so resuming and testing need no data for it. Testing a checkpoint
    without it is an error. The run's seed decides the choice of images, their augmentation and the
    prompter's draws; random generators keep their state.

    Args:
        num_images (int): Number of images; about 100 suffice for whitening (arXiv 2506.22908).
            Methods that need the means of all classes read the whole training set.
        batch_size (int): Number of images processed at once.

    Raises:
        InputError: If there are too few images; if a run is resumed, validated or tested with
            prompts that were never prepared.
    """

    priority = 'HIGH'

    def __init__(self, num_images: int = 100, batch_size: int = 10):
        check_int('PromptInitHook: num_images', num_images, 1)
        check_int('PromptInitHook: batch_size', batch_size, 1)
        self.num_images = num_images
        self.batch_size = batch_size

    def before_train(self, runner: Runner) -> None:  # noqa: D102
        check_prompter_hook(runner)
        for name, vit in unprepared(runner):
            if runner.iter > 0:
                raise InputError(
                    f'{name}.prompter: the checkpoint to resume from, of iteration {runner.iter}, '
                    f'holds prompts that were never prepared, and {type(vit.prompter).__name__} '
                    'would initialise them again. Resume with the settings of its own run'
                )
            if is_main_process():
                mode = vit.training
                vit.eval()
                with isolate_rng(runner.seed):
                    try:
                        report = self._prepare(runner, vit)
                    except (ValueError, torch.linalg.LinAlgError) as error:
                        raise InputError(f'{name}.prompter: {error}') from error
                vit.train(mode)
                runner.logger.info(f'{name}.prompter: {report}')
            # Not tensor by tensor, as shapes may depend on the data. On the CPU, as pickled CUDA
            # tensors would come back on rank 0's GPU.
            shared = [{name: tensor.cpu() for name, tensor in vit.prompter.state_dict().items()}
                      if is_main_process() else None]
            broadcast_object_list(shared)
            vit.prompter.load_state_dict(shared[0])
            for hook in runner.hooks:  # whose copies of the model are older
                if isinstance(hook, EMAHook):
                    averaged = hook.ema_model.module.get_submodule(name)
                    averaged.prompter.load_state_dict(shared[0])

    def _prepare(self, runner: Runner, vit: PromptedBackbone) -> str:
        reports = []
        for part in vit.prompter.parts():
            if part.needs_preparation:
                reports.append(part.prepare(vit, self._batches(runner, part.PREPARES_FROM_ALL)))
        return '; '.join(reports)

    def _batches(
        self, runner: Runner, everything: bool
    ) -> Iterator[Tuple[Tensor, Optional[Tensor]]]:
        """Yield images (b, 3, H, W) of the training set, read in this process, and classes."""
        loader = runner.train_dataloader
        model, task = model_of(runner), task_of(runner.cfg)
        classes = getattr(task.head(model), 'num_classes', None)
        number = len(loader.dataset) if everything else self.num_images
        chosen: List[int] = torch.randperm(len(loader.dataset))[:number].tolist()
        found = items(loader.dataset, chosen, skip_bad=runner.cfg.train_cfg.get('skip_bad', 0))
        while samples := list(itertools.islice(found, self.batch_size)):
            data = model.data_preprocessor(loader.collate_fn(samples), True)
            labels = task.label_matrix(data.get('data_samples'), classes)
            yield data['inputs'], None if labels is None else labels.to(data['inputs'].device)

    def _refuse_unprepared(self, runner: Runner) -> None:
        for name, vit in unprepared(runner):
            raise InputError(
                f'{name}.prompter: {type(vit.prompter).__name__} starts from training data and has '
                'not been prepared. Train first, or load a checkpoint of a run that was'
            )

    def before_val(self, runner: Runner) -> None:  # noqa: D102
        self._refuse_unprepared(runner)

    def before_test(self, runner: Runner) -> None:  # noqa: D102
        self._refuse_unprepared(runner)


def check_prepared_somewhere(runner: Runner) -> None:
    """Raise InputError if prompts start from data but the config has no hook to prepare them."""
    if any(isinstance(hook, PromptInitHook) for hook in runner.hooks):
        return
    for name, vit in unprepared(runner):
        raise InputError(
            f'{name}.prompter: {type(vit.prompter).__name__} starts from training data, but the '
            "config has no hook for it: add dict(type='lspt_mm.PromptInitHook') to "
            'custom_hooks (a list in a config replaces that of its base)'
        )


def unprepared(runner: Runner) -> Iterator[Tuple[str, PromptedBackbone]]:
    """Yield names and ViTs of a run whose prompts are yet to be initialised from data."""
    for name, vit in prompted_vits(runner).items():
        if vit.prompter is not None and vit.prompter.needs_preparation:
            yield name, vit
