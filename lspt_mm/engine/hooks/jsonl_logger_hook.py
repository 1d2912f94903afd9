"""Hook that writes one JSONL log per run, across interruptions."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Dict, Iterator, List

import torch
from mmengine.dist import all_reduce, get_comm_device, get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import LocalVisBackend

from lspt_mm.engine.loops import VALIDATED
from lspt_mm.registry import HOOKS, VISBACKENDS
from lspt_mm.utils.atomic_io import write_text
from lspt_mm.utils.checks import check_int

#: Name of the file in the work dir.
LOG = 'log.jsonl'
_NOT_OF_THE_RUN = ('time', 'data_time', 'memory')


@HOOKS.register_module()
class JsonlLoggerHook(Hook):
    """Writes ``log.jsonl``: one line per logged iteration and per validation, without duplicates.

    When a run is resumed, MMEngine starts new files and logs the iterations between the last
    checkpoint and the interruption again. Here a resumed run first removes the lines after its
    checkpoint. Lines are JSON objects: ``mode`` ('train' or 'val'), ``iter`` (number of finished
    iterations), ``epoch``, and the values: losses as means over the iterations since the previous
    line and over all processes, the learning rate, the metrics of a validation.

    Args:
        interval (int): Iterations between two lines, at least 1.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int = 50):
        check_int('JsonlLoggerHook: interval', interval, 1)
        self.interval = interval
        self._torn = False

    def before_train(self, runner: Runner) -> None:  # noqa: D102
        lines = [line for line in read_log(runner.work_dir) if line['iter'] <= runner.iter]
        done = [line['iter'] for line in lines if line['mode'] == 'val']
        runner.message_hub.update_info(VALIDATED, max(done, default=-1))
        self._rewrite(runner, lines)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # noqa: D102
        done = runner.iter + 1
        if done % self.interval and done != runner.max_iters:
            return
        window = done % self.interval or self.interval
        values = {}
        for key, history in runner.message_hub.log_scalars.items():
            mode, _, name = key.partition('/')
            if mode == 'train' and name not in _NOT_OF_THE_RUN:
                rate = name.endswith(('lr', 'momentum'))
                values[name] = float(history.current() if rate else history.mean(window))
        place = {'mode': 'train', 'iter': done, 'epoch': runner.epoch}
        # Each process has only the losses of its own images.
        self._append(runner, {**place, **_mean_of_all(values)})

    def after_val_epoch(self, runner: Runner, metrics=None) -> None:  # noqa: D102
        if isinstance(runner._train_loop, dict) or runner._train_loop is None:
            return  # a validation alone belongs to no run
        place = {'mode': 'val', 'iter': runner.iter, 'epoch': runner.epoch}
        self._append(runner, {**place, **(metrics or {})})
        runner.message_hub.update_info(VALIDATED, runner.iter)

    @master_only
    def _append(self, runner: Runner, values: dict) -> None:
        text = json.dumps(values, default=lambda value: value.item()) + '\n'
        try:
            with open(Path(runner.work_dir) / LOG, 'a', encoding='utf-8') as file:
                file.write('\n' * self._torn + text)
            self._torn = False
        except OSError as error:
            self._report(runner, error)

    @master_only
    def _rewrite(self, runner: Runner, lines: List[dict]) -> None:
        text = ''.join(json.dumps(line) + '\n' for line in lines)
        try:
            write_text(Path(runner.work_dir) / LOG, text)
        except OSError as error:
            self._report(runner, error)

    def _report(self, runner: Runner, error: OSError) -> None:
        """Log once that lines are lost; the run continues."""
        if not self._torn:
            runner.logger.error(f'{LOG} cannot be written, lines of it are lost: {error}')
        self._torn = True  # the file may end with a part of a line


@VISBACKENDS.register_module()
class FaultTolerantLocalVisBackend(LocalVisBackend):
    """MMEngine's ``LocalVisBackend`` that continues when the disk is full.

    It loses lines of ``scalars.json``, where MMEngine's would end the run.
    """

    def _dump(self, value_dict: dict, file_path: str, file_format: str) -> None:
        with suppress(OSError):  # JsonlLoggerHook reports it
            super()._dump(value_dict, file_path, file_format)


def _mean_of_all(values: Dict[str, float]) -> Dict[str, float]:
    """Means over the processes of a run."""
    if get_world_size() == 1:
        return values
    device = get_comm_device()
    tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    all_reduce(tensor, 'mean')
    return dict(zip(values, tensor.tolist(), strict=True))


def read_log(folder) -> Iterator[dict]:
    """Read the log of a work dir; lines truncated by an interruption are skipped."""
    try:
        text = (Path(folder) / LOG).read_text(encoding='utf-8', errors='replace')
    except OSError:
        return
    for line in text.splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if isinstance(values, dict) and {'iter', 'mode'} <= set(values):
            yield values
