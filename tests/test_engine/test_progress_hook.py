"""One live line, and a line for each validation; the logger is as before afterwards."""

import io
import logging
from types import SimpleNamespace

import pytest
from mmengine.logging import HistoryBuffer
from rich.console import Console

from lspt_mm.engine.hooks import ProgressHook, progress_hook


@pytest.fixture
def shown(monkeypatch):
    """What is written to standard error."""
    text = io.StringIO()
    monkeypatch.setattr(
        progress_hook, 'Console', lambda **_: Console(file=text, force_terminal=True, width=200)
    )
    return text


@pytest.fixture
def runner():
    handler = logging.StreamHandler(io.StringIO())
    logger = logging.getLogger('test_progress')
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    losses = HistoryBuffer([3.0, 1.0, 2.0], [1, 1, 1])
    return SimpleNamespace(
        logger=logger, handler=handler, max_iters=10, iter=2, cfg={'default_scope': 'mmseg'},
        message_hub=SimpleNamespace(log_scalars={'train/loss': losses}),
        optim_wrapper=SimpleNamespace(get_lr=lambda: {'lr': [1e-3, 5e-4]}),
    )


def test_the_line_has_iteration_loss_and_rate(runner, shown):
    hook = ProgressHook()
    hook.before_run(runner)
    hook.before_train_iter(runner, 2)
    hook.after_train_iter(runner, 2)
    hook.progress.refresh()
    assert all(part in shown.getvalue() for part in ('training', '3/10', 'loss 2.0000', '1.0e-03'))
    hook.after_val_epoch(runner, {'mIoU': 54.321})
    assert 'iteration 2 of 10: mIoU 54.32 on the validation images' in shown.getvalue()
    hook.after_run(runner)


def test_warnings_are_shown_and_the_logger_comes_back(runner, shown):
    stream = runner.handler.stream
    hook = ProgressHook()
    hook.before_run(runner)
    runner.logger.info('a detail')
    runner.logger.warning('mind this')
    hook.close()
    assert 'mind this' in shown.getvalue() and 'a detail' not in shown.getvalue()
    assert runner.handler.stream is stream and runner.handler.level == logging.NOTSET
    runner.logger.info('a detail')
    assert 'a detail' in stream.getvalue()
