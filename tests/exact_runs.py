"""Miniature runs with every kind of randomness, to be interrupted and compared."""

import os
import signal
from pathlib import Path

from miniatures import _child, _forks, write_classification, write_segmentation

SEGMENTATION = """
train_dataloader['num_workers'] = {workers}
train_dataloader['persistent_workers'] = {persistent}
train_dataloader['dataset']['pipeline'] = load + [
    dict(type='RandomResize', scale=(64, 40), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')]
model['backbone']['prompter'] = dict(num_tokens=3, dropout=0.1)
model['backbone']['drop_path_rate'] = 0.2
model['decode_head']['dropout_ratio'] = 0.1
train_cfg = dict(max_iters={iterations}, val_interval=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=4, end={iterations}, by_epoch=False)]
default_hooks['checkpoint'] = dict(interval=3, max_keep_ckpts=2)
default_hooks['run_log'] = dict(interval=1)
"""

CLASSIFICATION = """
train_dataloader['num_workers'] = {workers}
train_dataloader['persistent_workers'] = {persistent}
train_dataloader['dataset']['pipeline'] = [
    dict(type='lspt_mm.LoadImage'), dict(type='RandomResizedCrop', scale=32),
    dict(type='RandomFlip', prob=0.5), dict(type='ColorJitter', brightness=0.4),
    dict(type='PackInputs')]
model['backbone']['prompter'] = dict(num_tokens=3, dropout=0.1)
model['backbone']['drop_path_rate'] = 0.2
train_cfg = dict(max_epochs={epochs}, val_interval=2)
optim_wrapper = dict(optimizer=dict(lr=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=True, begin=0, end=2),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=2, end={epochs})]
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=2, save_best='auto'),
    run_log=dict(interval=1))
"""


def write_run(folder: Path, kind: str, workers: int = 0, iterations: int = 12) -> Path:
    """A config of one of both kinds; 3 iterations are an epoch of the classification."""
    persistent = workers > 0
    if kind == 'segmentation':
        config = write_segmentation(folder).config
        more = SEGMENTATION.format(workers=workers, persistent=persistent, iterations=iterations)
    else:
        config = write_classification(folder).config
        more = CLASSIFICATION.format(
            workers=workers, persistent=persistent, epochs=iterations // 3
        )
    config.write_text(config.read_text() + more)
    return config


class Tool:
    """A tool running in a fork of the server, to be looked at and to be killed.

    Args:
        name, *arguments: As of ``miniatures.run_tool``.
        output: File that stdout and stderr are appended to.
    """

    def __init__(self, name: str, *arguments, cwd: Path, output: Path):
        self._process = _forks.Process(
            target=_run, args=(cwd, name, [*map(str, arguments)], output)
        )
        self._process.start()
        self.pid = self._process.pid

    def poll(self):
        """The exit code, None while it runs."""
        return self._process.exitcode

    def wait(self) -> int:
        """The exit code."""
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal to the main process alone."""
        if self.poll() is None:
            os.kill(self.pid, number)


class _Appending:
    """Takes what ``_child`` has to say."""

    def __init__(self, path):
        self.path = path

    def send(self, pair):
        with open(self.path, 'a') as file:
            file.write(pair[1])


def _run(cwd, name, arguments, output):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server of forks ignores it
    _child(_Appending(output), cwd, name, arguments)
