"""Runs what a prompt method does in training besides its forward pass."""

import math
from functools import partial
from typing import List, Optional

from mmengine.dist import all_reduce, broadcast, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import Tensor, nn, tensor

from lspt_mm.engine.hooks.backbone_weights_hook import prompted_vits
from lspt_mm.engine.unwrapping import model_of
from lspt_mm.errors import InputError
from lspt_mm.models.observed import CURRENT, Observed
from lspt_mm.models.prompted_backbone import PromptedBackbone
from lspt_mm.models.prompters.base import Training
from lspt_mm.registry import HOOKS
from lspt_mm.tasks import task_of

#: Keys of MMEngine's message hub, which checkpoints hold: sum and number of the losses in a pass.
_SUM, _COUNT = 'prompter/loss_sum', 'prompter/loss_count'


@HOOKS.register_module()
class PrompterHook(Hook):
    """Calls the parts of a method that run in training: losses, and steps by iteration and epoch.

    - ``losses``: added to the losses of the classifier or segmentor, with its own log entries.
    - ``before_step``, ``after_step``: around each iteration.
    - ``after_epoch``: after each pass over the training set. A run counted in iterations has one
      when as many images were drawn. Afterwards all processes take the state of the first.

    This project's Runner adds it where a method needs it.
    """

    priority = 'NORMAL'

    def __init__(self):
        self._vits: List[PromptedBackbone] = []
        self._handles: list = []
        self._token = None

    def before_train(self, runner: Runner) -> None:  # noqa: D102
        self._vits = with_steps(runner)
        if not self._vits:
            return
        model = model_of(runner)
        task = task_of(runner.cfg)
        classes = getattr(task.head(model), 'num_classes', None)

        def begin(module, args, kwargs) -> None:
            if kwargs.get('mode') == 'loss' and module.training:
                self._token = CURRENT.set(Observed())

        def add(module, args, kwargs, losses):
            if self._token is None:
                return losses
            observed, samples = CURRENT.get(), kwargs.get('data_samples')
            CURRENT.reset(self._token)
            self._token = None
            labels = task.label_matrix(samples, classes)
            found = self._losses(observed, labels, next(module.parameters()).device)
            if found and 'loss' in losses:  # MMEngine would log it in place of the sum
                losses = {'loss_cls': losses['loss'], **losses}
                del losses['loss']
            return {**losses, **found}

        self._handles = [
            model.register_forward_pre_hook(begin, with_kwargs=True),
            model.register_forward_hook(add, with_kwargs=True),
        ]

    def _losses(self, observed: Observed, labels: Optional[Tensor], device) -> dict:
        labels = None if labels is None else labels.to(device)
        found = {}
        for vit in self._vits:
            name = type(vit.prompter).__name__.lower()
            for key, value in vit.prompter.losses(vit, observed, labels).items():
                found[f'loss_{name}_{key}'] = value
        return found

    def after_train(self, runner: Runner) -> None:  # noqa: D102
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:  # noqa: D102
        for vit in self._vits:
            vit.prompter.before_step()

    def after_train_iter(  # noqa: D102
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        if not self._vits:
            return
        for vit in self._vits:
            vit.prompter.after_step()
        hub = runner.message_hub
        loss = float(outputs['loss'].detach()) if outputs and 'loss' in outputs else math.nan
        hub.update_info(_SUM, hub.get_info(_SUM, 0.0) + loss)
        hub.update_info(_COUNT, hub.get_info(_COUNT, 0) + 1)
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            length = pass_length(runner)
            if (runner.iter + 1) % length == 0:
                self._epoch(runner, (runner.iter + 1) // length,
                            math.ceil(runner.max_iters / length))

    def after_train_epoch(self, runner: Runner) -> None:  # noqa: D102
        if self._vits and not isinstance(runner.train_loop, IterBasedTrainLoop):
            self._epoch(runner, runner.epoch + 1, runner.max_epochs)

    def _epoch(self, runner: Runner, epoch: int, num_epochs: int) -> None:
        hub = runner.message_hub
        loss = tensor(hub.get_info(_SUM, 0.0) / max(hub.get_info(_COUNT, 0), 1))
        all_reduce(loss, 'mean')
        hub.update_info(_SUM, 0.0)
        hub.update_info(_COUNT, 0)
        wrapper = runner.optim_wrapper
        scaler = getattr(wrapper, 'loss_scaler', None)
        scale = 1.0 if scaler is None else scaler.get_scale()
        training = Training(
            epoch, num_epochs, float(loss), partial(_forget, wrapper.optimizer.state),
            scale / getattr(wrapper, '_accumulative_counts', 1),
        )
        for vit in self._vits:
            line = vit.prompter.after_epoch(training)
            for value in vit.prompter.state_dict().values():
                broadcast(value, src=0)
            if line:
                runner.logger.info(f'{type(vit.prompter).__name__}: {line}')


def _forget(state: dict, parameter: nn.Parameter, rows=None) -> None:
    if rows is None:
        state.pop(parameter, None)
        return
    for name in ('momentum_buffer', 'exp_avg'):  # SGD's, Adam's
        momentum = state.get(parameter, {}).get(name)
        if momentum is not None:
            momentum[rows] = 0


def pass_length(runner: Runner) -> int:
    """Iterations in which as many images are drawn as the training set has; at least 1."""
    loader = runner.train_dataloader
    drawn = (loader.batch_size or 1) * get_world_size()
    return max(1, math.ceil(len(loader.dataset) / drawn))


def with_steps(runner: Runner) -> List[PromptedBackbone]:
    """The ViTs of a run whose methods have a part that :class:`PrompterHook` calls."""
    vits = prompted_vits(runner).values()
    return [vit for vit in vits if vit.prompter is not None and vit.prompter.trains_by_hook()]


def add_prompter_hook(runner: Runner) -> None:
    """Register :class:`PrompterHook` if a method needs it, unless the config does so."""
    if with_steps(runner) and not _has_hook(runner):
        runner.register_hook(PrompterHook())


def check_prompter_hook(runner: Runner) -> None:
    """Raise InputError if a method needs :class:`PrompterHook` and the run has none."""
    for vit in with_steps(runner):
        if not _has_hook(runner):
            raise InputError(
                f'{type(vit.prompter).__name__} has losses or steps of its own in training: train '
                "with tools/train.py, or add dict(type='lspt_mm.PrompterHook') to custom_hooks"
            )


def _has_hook(runner: Runner) -> bool:
    return any(isinstance(hook, PrompterHook) for hook in runner.hooks)
