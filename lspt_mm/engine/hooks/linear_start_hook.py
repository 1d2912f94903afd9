"""A linear classifier on frozen features: the baseline of a run, and the start of its head."""

import copy
import time
from pathlib import Path
from typing import List, Optional

from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from lspt_mm.config.preflight import datasets_of
from lspt_mm.engine.hooks.jsonl_logger_hook import read_log
from lspt_mm.errors import InputError
from lspt_mm.models.linear_head import StandardizedLinearClsHead
from lspt_mm.probing import LinearFit, fit_linear, head_features
from lspt_mm.registry import HOOKS
from lspt_mm.tasks import task_of
from lspt_mm.utils.atomic_io import read_json, write_json
from lspt_mm.utils.seed import restore_rng

#: Name of the file in the work dir: metric, value in per cent, C, seconds.
BASELINE = 'baseline.json'


@HOOKS.register_module()
class LinearStartHook(Hook):
    """Before the first iteration, fit logistic regression to the ViT's features without prompts.

    The training images are read once by the pipeline of the validation, which augments nothing.
    C is chosen on the validation images, or without any by cross-validation. The log and
    ``baseline.json`` have the accuracy; after the training a warning says where the run is below
    it, or stopped while its validation was still rising. Random generators are left as they were.

    Raises:
        InputError: If the head is no ``StandardizedLinearClsHead``.
    """

    priority = 'HIGH'

    def before_train(self, runner: Runner) -> None:  # noqa: D102
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        head = getattr(model, 'head', None)
        if not isinstance(head, StandardizedLinearClsHead):
            raise InputError(
                f'LinearStartHook: the head is a {type(head).__name__}, expected a '
                'lspt_mm.StandardizedLinearClsHead'
            )
        if runner.iter > 0:
            return
        if is_main_process():
            with restore_rng():
                head.start_at(*self._fit(runner, model)[:4])
        for tensor in head.state_dict().values():
            broadcast(tensor, src=0)

    def _fit(self, runner: Runner, model) -> LinearFit:
        begin, cfg, task = time.time(), runner.cfg, task_of(runner.cfg)
        train = cfg.train_dataloader
        batch = dict(batch_size=train.batch_size, workers=train.get('num_workers', 0))
        held_out = None if runner.val_loop is None else cfg.val_dataloader.dataset
        plain = (held_out or cfg.test_dataloader.dataset).pipeline
        images = copy.deepcopy(train.dataset)
        for dataset in datasets_of({'images': {'dataset': images}}, ('images',)):
            dataset['pipeline'] = plain
        own = head_features(model, images, task, **batch)
        other = held_out and head_features(model, dict(held_out), task, **batch)
        judge = other and (other.x, other.labels)
        fit = fit_linear(own.x, own.labels, model.head.num_classes, judge)
        seconds, score = time.time() - begin, 100 * fit.scores[fit.c]
        where = 'validation' if other else 'cross-validation'
        runner.logger.info(
            f'logistic regression on frozen features: {task.metric} {score:.2f} on {where} '
            f'(C={fit.c:.3g}, {len(own.labels)} images, {seconds:.0f} s); the head starts from it'
        )
        write_json(Path(runner.work_dir) / BASELINE, dict(
            metric=task.metric_key, value=score, of=where, c=fit.c, seconds=round(seconds, 1),
            path={f'{c:.3g}': 100 * value for c, value in fit.scores.items()},
        ))  # fmt: skip
        return fit

    def after_train(self, runner: Runner) -> None:  # noqa: D102
        if is_main_process():
            for line in remarks(runner.work_dir):
                runner.logger.warning(line)


def baseline_of(folder) -> Optional[dict]:
    """The content of a work dir's ``baseline.json``; None without one."""
    try:
        return read_json(Path(folder) / BASELINE)
    except InputError:
        return None


def remarks(folder) -> List[str]:
    """What a finished run's validations say beside its baseline."""
    baseline = baseline_of(folder)
    if baseline is None:
        return []
    key, found = baseline['metric'], []
    values = [line[key] for line in read_log(folder) if line['mode'] == 'val' and key in line]
    if values and max(values) < baseline['value'] - 0.005:  # per cent, as they are shown
        found.append(
            f'the best validation, {max(values):.2f}, is below logistic regression on frozen '
            f'features ({baseline["value"]:.2f}): take lower learning rates or more epochs'
        )
    if len(values) > 2 and values[-1] > max(values[:-1]):
        found.append(
            f'the validation was still rising at the end ({values[-2]:.2f}, {values[-1]:.2f}): '
            'more epochs may help'
        )
    return found
