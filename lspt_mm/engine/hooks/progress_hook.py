"""Hook that shows the progress of training on one live line."""

import logging
from typing import Dict, Optional

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lspt_mm.registry import HOOKS
from lspt_mm.tasks import task_of

#: Number of iterations over which the shown loss is averaged.
_WINDOW = 20


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows iteration, time left, loss and learning rate; prints a line for each validation.

    The console also gets warnings and errors; the log file gets everything, as without the hook.
    If standard error is not a terminal, only the lines of validations are printed.
    """

    priority = 'HIGHEST'

    def __init__(self) -> None:
        self.progress: Optional[Progress] = None
        self._streams: Dict[logging.StreamHandler, tuple] = {}

    def before_run(self, runner: Runner) -> None:  # noqa: D102
        if not is_main_process():
            return
        self.progress = Progress(
            TextColumn('{task.description}'), BarColumn(30), MofNCompleteColumn(),
            TextColumn('ETA'), TimeRemainingColumn(), TextColumn('{task.fields[values]}'),
            console=Console(stderr=True), transient=True,
        )
        for handler in runner.logger.handlers:
            if isinstance(handler, logging.FileHandler):
                continue
            self._streams[handler] = handler.stream, handler.level
            # Through rich's console, which keeps the live line below what is printed.
            handler.setStream(FileProxy(self.progress.console, handler.stream))
            handler.setLevel(logging.WARNING)
        self.progress.add_task('frozen features', total=None, values='')
        self.progress.start()

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:  # noqa: D102
        self._update(description='training', total=runner.max_iters)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:  # noqa: D102
        scalars = runner.message_hub.log_scalars
        loss = scalars.get('train/loss')
        rates = [max(one) for one in runner.optim_wrapper.get_lr().values() if one]
        shown = [f'loss {loss.mean(_WINDOW):.4f}'] if loss is not None else []
        shown += [f'lr {rates[0]:.1e}'] if rates else []
        self._update(completed=runner.iter + 1, values='  '.join(shown))

    def before_val(self, runner: Runner) -> None:  # noqa: D102
        self._update(description='validating')

    def after_val_epoch(self, runner, metrics=None) -> None:  # noqa: D102
        task = task_of(runner.cfg)
        value = (metrics or {}).get(task.metric_key)
        if self.progress is not None and value is not None:
            self.progress.console.print(
                f'iteration {runner.iter} of {runner.max_iters}: {task.metric} {value:.2f} on the '
                'validation images', highlight=False,
            )

    def after_run(self, runner: Runner) -> None:  # noqa: D102
        self.close()

    def close(self) -> None:
        """Remove the live line and restore the logger's console output."""
        if self.progress is not None:
            self.progress.stop()
        for handler, (stream, level) in self._streams.items():
            handler.setStream(stream)
            handler.setLevel(level)
        self.progress, self._streams = None, {}

    def _update(self, **values) -> None:
        if self.progress is not None:
            self.progress.update(self.progress.task_ids[0], **values)
