"""Hook that writes the score of each class on the validation and test images."""

import math
from pathlib import Path
from typing import Optional

import numpy as np
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from lspt_mm.engine.unwrapping import model_of
from lspt_mm.registry import HOOKS
from lspt_mm.tasks import task_of
from lspt_mm.utils.atomic_io import write_json
from lspt_mm.utils.text import shorten

#: Files in the work dir: metric, value in per cent, iteration, score of each class.
VALIDATION, TEST = 'validation.json', 'test.json'


@HOOKS.register_module()
class ClassScoresHook(Hook):
    """Write the metric and the score of each class to ``validation.json`` after each validation.

    After a test, the file is ``test.json``. Scores are IoU, accuracy or F1 in per cent, null for a
    class without an image. At the end, a warning names the classes that occur in the last
    validation but are never predicted.
    """

    priority = 'HIGH'

    def __init__(self) -> None:
        self.counts: Optional[np.ndarray] = None
        self.seen = 0  # samples of this process

    def before_val_epoch(self, runner: Runner) -> None:  # noqa: D102
        self.counts, self.seen = None, 0

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # noqa: D102
        self._count(runner, runner.val_dataloader, outputs)

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # noqa: D102
        self._count(runner, runner.test_dataloader, outputs)

    def _count(self, runner: Runner, loader, outputs) -> None:
        task = task_of(runner.cfg)
        classes = task.head(model_of(runner)).num_classes
        for sample in outputs:
            # Processes take turns, and the last of them repeat the first images.
            position = self.seen * get_world_size() + get_rank()
            self.seen += 1
            truth, predicted = task.truth(sample), task.prediction(sample).labels
            if truth is None or position >= len(loader.dataset):  # None: a test for a server
                continue
            found = task.counts(truth, predicted, classes)
            self.counts = found if self.counts is None else self.counts + found

    def after_val_epoch(self, runner, metrics=None) -> None:  # noqa: D102
        self._write(runner, VALIDATION, runner.val_dataloader, iter=runner.iter)

    before_test_epoch = before_val_epoch

    def after_test_epoch(self, runner, metrics=None) -> None:  # noqa: D102
        self._write(runner, TEST, runner.test_dataloader)

    def _write(self, runner: Runner, name: str, loader, **facts) -> None:
        parts = [one for one in all_gather_object(self.counts) if one is not None]
        self.counts = sum(parts) if parts else None
        if not parts or not is_main_process():
            return
        task = task_of(runner.cfg)
        scores = [None if math.isnan(score) else score for score in task.class_scores(self.counts)]
        names = _names(runner, loader)
        found = dict(
            metric=task.metric, value=task.score(self.counts), **facts,
            class_metric=task.class_metric, classes=dict(zip(names, scores, strict=True)),
        )
        try:
            write_json(Path(runner.work_dir) / name, found)
        except OSError as error:  # such as a full disk, which must not end the run
            runner.logger.warning(f'{name} cannot be written: {error}')

    def after_train(self, runner: Runner) -> None:  # noqa: D102
        if self.counts is None or not is_main_process():
            return
        truth, predicted = (n > 0 for n in task_of(runner.cfg).occurrences(self.counts))
        names = _names(runner, runner.val_dataloader)
        never = [names[number] for number in np.flatnonzero(truth & ~predicted)]
        if never:
            runner.logger.warning(
                f'{len(never)} of the {truth.sum()} classes in the last validation are never '
                f'predicted: {shorten(never)}'
            )


def _names(runner: Runner, loader) -> list:
    meta = loader.dataset.metainfo
    return task_of(runner.cfg).class_names(model_of(runner), meta.get('classes'))
