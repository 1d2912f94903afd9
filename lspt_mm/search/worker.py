"""One run of a search: ``python -m lspt_mm.search.worker FOLDER``.

Reads ``FOLDER/config.py``, trains, and writes ``FOLDER/result.json`` last. A folder that has one is
done. In any other, files of an interrupted attempt are removed and the run starts again, so that
its outcome equals that of an uninterrupted run.
"""

import pickle
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import torch
from filelock import FileLock
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import EpochBasedTrainLoop

from lspt_mm.config.load import read_config_file
from lspt_mm.config.preflight import allows_random
from lspt_mm.engine.hooks.linear_baseline_hook import baseline_of
from lspt_mm.engine.hooks.trainable_report_hook import count_parameters
from lspt_mm.engine.runner import build_runner, run
from lspt_mm.errors import InputError
from lspt_mm.search.decoded_images import DecodedImages, KeptImages
from lspt_mm.tasks import task_of
from lspt_mm.utils.atomic_io import write_json
from lspt_mm.utils.cli import input_errors_as_messages
from lspt_mm.utils.malloc import keep_freed_memory

CONFIG, RESULT, RUN, LOCK = 'config.py', 'result.json', 'run', 'lock'
PREDICTIONS, CONFUSION = 'predictions.pkl', 'confusion.csv'
#: Written before the first test image is read.
TEST_BEGUN = 'test_begun'
#: Decoded images of all runs of this process.
_IMAGES = KeptImages()


class Scores(Hook):
    """Keeps the task's metric of every validation, by epoch or iteration, and of the test."""

    priority = 'VERY_LOW'

    def __init__(self, key: str):
        self.key = key
        self.curve: List[List[float]] = []
        self.tested = None

    def after_val_epoch(self, runner, metrics=None) -> None:  # noqa: D102
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        self.curve.append([runner.epoch if by_epoch else runner.iter, self._score(metrics)])

    def after_test_epoch(self, runner, metrics=None) -> None:  # noqa: D102
        self.tested = self._score(metrics)

    def _score(self, metrics: dict) -> float:
        if self.key not in metrics:
            raise InputError(
                f'the evaluator computes {", ".join(metrics)}; a search compares {self.key}'
            )
        return float(metrics[self.key])


def run_folder(folder: Path) -> None:
    """Execute the run of ``folder`` unless it is done; waits for another process that runs it."""
    with FileLock(folder / LOCK):
        if not (folder / RESULT).is_file():
            shutil.rmtree(folder / RUN, ignore_errors=True)
            write_json(folder / RESULT, _train(folder))


def _train(folder: Path) -> Dict[str, Any]:
    begun = time.time()
    cfg = read_config_file(folder / CONFIG)
    task = task_of(cfg)
    init_default_scope(task.scope)
    cfg.work_dir = str(folder / RUN)
    tests = cfg.get('test_dataloader') is not None
    if tests and not task.dense:  # masks of all test images are too much
        task.dump(cfg, str(folder / PREDICTIONS))
    loaders = [k for k in ('train_dataloader', 'val_dataloader', 'test_dataloader') if cfg.get(k)]
    runner = build_runner(cfg, tuple(loaders))
    kept = Scores(task.metric_key)
    runner.register_hook(kept)
    runner.register_hook(DecodedImages(_IMAGES))
    keep_freed_memory()
    run(runner, runner.train)
    prompter = getattr(runner.model.backbone, 'prompter', None)
    result: Dict[str, Any] = {
        # A config may replace the method's prompter.
        'experiment': cfg.get('experiment'),
        'prompter': None if prompter is None else type(prompter).__name__,
        'seed': cfg.randomness.seed, 'split': 'test' if tests else 'val',
        'trainable': _trainable(runner.model), 'curve': kept.curve,
        # None: random, on purpose.
        'weights': None if allows_random(cfg) else cfg.model.backbone.get('pretrained'),
    }
    if tests:
        (folder / TEST_BEGUN).touch()
        run(runner, runner.test)
        if not task.dense and task.exclusive:
            write_confusion(folder, cfg.model.head.num_classes)
    result['baseline'] = (baseline_of(cfg.work_dir) or {}).get('value')
    result['accuracy'] = kept.tested if tests else kept.curve[-1][1]
    result['seconds'] = round(time.time() - begun, 1)
    return result


def _trainable(model: torch.nn.Module) -> Dict[str, int]:
    """Trainable parameters of the prompter, the rest of the backbone, and the head; and all."""
    parts = count_parameters(model)
    counts = {
        'prompts': sum(n for part, (n, _) in parts.items() if part.endswith('prompter')),
        'all': sum(total for _, total in parts.values()),
    }
    backbone = sum(n for part, (n, _) in parts.items()
                   if part.split('.')[0] == 'backbone' and not part.endswith('prompter'))
    trained = sum(n for n, _ in parts.values())
    return {**counts, 'backbone': backbone, 'head': trained - counts['prompts'] - backbone}


def write_confusion(folder: Path, num_classes: int) -> None:
    """The test's confusion matrix by mmpretrain: rows are true classes, columns predicted ones."""
    from mmpretrain.evaluation import ConfusionMatrix

    with open(folder / PREDICTIONS, 'rb') as file:
        samples = pickle.load(file)  # written by this process
    predicted = torch.cat([torch.as_tensor(s['pred_label']).reshape(-1) for s in samples])
    true = torch.cat([torch.as_tensor(s['gt_label']).reshape(-1) for s in samples])
    matrix = ConfusionMatrix.calculate(predicted, true, num_classes=num_classes)
    np.savetxt(folder / CONFUSION, matrix.numpy(), fmt='%d', delimiter=',')


def main(folder: str) -> None:
    """Execute the run of a folder; an input error ends the process with code 2."""
    with input_errors_as_messages():
        run_folder(Path(folder))


if __name__ == '__main__':
    main(sys.argv[1])
