"""Fits a linear classifier on frozen features: a run's baseline, and its head's initial value."""

import copy
import time
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np
import sklearn
import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.checkpoints.records import fingerprint
from lspt_mm.config.preflight import training_images
from lspt_mm.engine.hooks.jsonl_logger_hook import read_log
from lspt_mm.engine.unwrapping import model_of
from lspt_mm.errors import InputError
from lspt_mm.models.prompted_backbone import PromptedBackbone
from lspt_mm.probing import (
    PATCH_PATH,
    PATH,
    LinearFit,
    fit_linear,
    fit_one_vs_rest,
    frozen_features,
)
from lspt_mm.probing.features import cached
from lspt_mm.registry import HOOKS
from lspt_mm.tasks import task_of
from lspt_mm.utils.atomic_io import read_json, write_json
from lspt_mm.utils.checks import check_number
from lspt_mm.utils.seed import restore_rng

#: Name of the file in the work dir: metric, value in per cent, C, seconds.
BASELINE = 'baseline.json'


@HOOKS.register_module()
class LinearBaselineHook(Hook):
    """Before the first iteration, fit logistic regression to the ViT's features without prompts.

    Training images (in segmentation, their patches) pass once through the validation pipeline,
    which does not augment. C is chosen on the validation images, or by cross-validation if there
    are none. Features and fit are cached (``LSPT_MM_CACHE``). The log and ``baseline.json`` have
    the metric on the validation images. The head starts from the fit's logits, over its
    temperature and ``soften``. After training, warnings name signs of a failed run: a
    validation below the baseline, or one that was still rising. Random generators keep their
    state.

    Args:
        start (bool): Whether the model's head starts from the fit, unless ``load_from`` names a
            checkpoint that has this head. The neck must be a ``Standardize``, and the head must
            have a linear layer: mmpretrain's ``LinearClsHead`` or ``MultiLabelLinearClsHead`` (a
            regression for each class against the rest), ``LinearSegHead``, or ``UPerHead`` and
            ``SegformerHead`` with ``linear_in_channels``.
        soften (float): Divides the logits that the head starts from, at least 1. Predictions stay
            the same, and training images have a loss from which prompts learn
            (docs/results.md).

    Raises:
        InputError: If ``start`` is set and neck or head are not of these types.
    """

    priority = 'HIGH'

    def __init__(self, start: bool = True, soften: float = 1.0):
        check_number('soften', soften, 1)
        self.start, self.soften = start, soften

    def before_train(self, runner: Runner) -> None:  # noqa: D102
        model, task = model_of(runner), task_of(runner.cfg)
        if self.start and not task.starts_from_fit(model):
            raise InputError(
                'LinearBaselineHook: the head cannot start from a fit; expected '
                "neck=dict(type='lspt_mm.Standardize', ...) and a head with a linear layer, or "
                'start=False'
            )
        frozen = isinstance(getattr(model, 'backbone', None), PromptedBackbone)
        if runner.iter > 0 or not (self.start or (frozen and _held_out(runner))):
            return
        with restore_rng():
            begin = time.time()
            shared = [self._fit(runner, model, task) if is_main_process() else None]
            broadcast_object_list(shared)
            (fit,) = shared
            if fit is None:
                return
            start = self.start and not _head_is_loaded(runner, task.linear_layer(model))
            self._report(runner, model, task, fit, begin, start)
        if start:
            task.start_at(model, fit._replace(temperature=fit.temperature * self.soften))

    def _fit(self, runner: Runner, model: nn.Module, task) -> Optional[LinearFit]:
        """The fit; None if it is impossible and the run does not need it."""
        try:
            return self._fitted(runner.cfg, model, task, _held_out(runner))
        except InputError as error:
            if self.start:
                raise
            runner.logger.warning(f'no logistic regression on frozen features: {error}')
            return None

    @staticmethod
    def _fitted(cfg, model: nn.Module, task, held_out: Optional[dict]) -> LinearFit:
        train = cfg.train_dataloader
        how = model, task, train.batch_size, train.get('num_workers', 0)
        own = frozen_features(training_images(cfg), *how, skip_bad=cfg.train_cfg.get('skip_bad', 0))
        other = held_out and frozen_features(dict(held_out), *how)
        if other and not len(other.x):  # no pixel of them has a class
            other = None
        path, weight = PATCH_PATH if task.dense else PATH, task.class_weight(model)

        def compute() -> Dict[str, np.ndarray]:
            if task.exclusive:
                fit = fit_linear(
                    own.x, own.shares, other, path, task.score, weight, task.dense, own.files
                )
            else:
                fit = fit_one_vs_rest(own.x, own.shares, other, path, task.score)
            return {**fit._asdict(), 'scores': np.array(list(fit.scores.items()))}

        read = [x for x in (*own, *(other or ())[:2]) if x is not None]
        arrays = {str(i): torch.tensor(x) for i, x in enumerate(read)}
        weights = None if weight is None else list(map(float, weight))
        settings = ['fit 4', fingerprint(arrays), path, weights, task.name, sklearn.__version__]
        fit = {name: np.array(x) for name, x in cached(settings, (), compute).items()}
        fit.update(c=float(fit['c']), temperature=float(fit['temperature']),
                   scores=dict(fit['scores'].tolist()))
        return LinearFit(**fit)

    @staticmethod
    def _report(
        runner: Runner, model: nn.Module, task, fit: LinearFit, begin: float, start: bool
    ) -> None:
        """Write the baseline's metric to the log and ``baseline.json``."""
        of = 'a fifth of the training patches' if task.dense else 'cross-validation'
        value = fit.scores[fit.c]
        if _held_out(runner):
            of = 'validation'
            if task.dense:  # evaluated by pixel, as the run will be
                value = _evaluate(runner, task.linear_model(model, fit)).get(task.metric_key)
        if not is_main_process():
            return
        if value is None:
            runner.logger.warning(
                f'no baseline: val_evaluator has no {task.metric_key} to compare with'
            )
            return
        value = float(value)  # of NumPy
        seconds = time.time() - begin
        runner.logger.info(
            f'logistic regression on frozen features: {task.metric} {value:.2f} on {of} '
            f'(C={fit.c:.3g}, {seconds:.0f} s)' + ('; the head starts from it' * start)
        )
        write_json(Path(runner.work_dir) / BASELINE, dict(
            metric=task.metric_key, value=value, of=of, c=fit.c, temperature=fit.temperature,
            seconds=round(seconds, 1),
            path={f'{c:.3g}': score for c, score in fit.scores.items()},
        ))

    def after_train(self, runner: Runner) -> None:  # noqa: D102
        if is_main_process():
            for line in remarks(runner.work_dir):
                runner.logger.warning(line)



def _head_is_loaded(runner: Runner, layer: nn.Module) -> bool:
    """Whether ``load_from`` has brought the neck and this layer."""
    if not runner._load_from:
        return False
    content = read_checkpoint(runner._load_from)
    state = content.get('state_dict', content)
    consume_prefix_in_state_dict_if_present(state, 'module.')
    ours = model_of(runner).state_dict(keep_vars=True)
    names = [name for name, tensor in ours.items()
             if tensor is layer.weight or tensor is layer.bias or name.startswith('neck.')]
    return all(name in state and state[name].shape == ours[name].shape for name in names)


def _held_out(runner: Runner) -> Optional[dict]:
    return None if runner.val_loop is None else runner.cfg.val_dataloader.dataset


@torch.no_grad()  # mmseg's val_step does not switch gradients off
def _evaluate(runner: Runner, model: nn.Module) -> dict:
    """Evaluate another model on the validation images, without calling any hook."""
    loader = Runner.build_dataloader(copy.deepcopy(runner.cfg.val_dataloader), runner.seed)
    evaluator = runner.build_evaluator(copy.deepcopy(runner.cfg.val_evaluator))
    evaluator.dataset_meta = loader.dataset.metainfo
    for batch in loader:
        evaluator.process(data_samples=model.val_step(batch), data_batch=batch)
    return evaluator.evaluate(len(loader.dataset))


def baseline_of(folder) -> Optional[dict]:
    """The content of a work dir's ``baseline.json``, or None."""
    try:
        return read_json(Path(folder) / BASELINE)
    except InputError:
        return None


def remarks(folder) -> List[str]:
    """Warnings from comparing a finished run's validations with its baseline."""
    baseline = baseline_of(folder)
    if baseline is None:
        return []
    key, found = baseline['metric'], []
    values = [line[key] for line in read_log(folder) if line['mode'] == 'val' and key in line]
    if values and max(values) < baseline['value'] - 0.005:  # per cent, as they are shown
        found.append(
            f'the best validation, {max(values):.2f}, is below logistic regression on frozen '
            f'features ({baseline["value"]:.2f}): try lower learning rates or a longer training'
        )
    if len(values) > 2 and values[-1] > max(values[:-1]):
        found.append(
            f'the validation was still rising at the end ({values[-2]:.2f}, {values[-1]:.2f}): '
            'a longer training may help'
        )
    return found
