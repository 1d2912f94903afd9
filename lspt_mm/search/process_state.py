"""What a run of MMEngine leaves in its process, restored for the next run."""

import gc
import multiprocessing
import os
import signal
import sys
import warnings
from contextlib import contextmanager
from typing import Iterator

import cv2
import torch
from mmengine.logging import MMLogger
from mmengine.utils import ManagerMixin
from yapf.yapflib import yapf_api

_SIGNALS = (signal.SIGTERM, signal.SIGINT)  # of PreemptionHook
_CUDNN = torch.backends.cudnn


@contextmanager
def restore_process_state() -> Iterator[None]:
    """Free memory of earlier runs; restore the process's state after a block that executes a run.

    The state is: MMEngine's named instances (loggers, message hubs, visualizers, default scope),
    environment, working directory, handlers of signals, filters of warnings, import path, start
    method of processes, and settings of torch and OpenCV. Random generators are left as they are,
    because each run seeds them. Modules stay imported.
    """
    _free_memory()
    environment, folder, path = dict(os.environ), os.getcwd(), list(sys.path)
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    start_method = multiprocessing.get_start_method(allow_none=True)
    torch_settings, threads = _torch_settings(), cv2.getNumThreads()
    try:
        with warnings.catch_warnings(), _format_texts_once():
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.path[:] = path
        multiprocessing.set_start_method(start_method, force=True)
        cv2.setNumThreads(threads)
        _set_torch(*torch_settings)
        _forget_instances()
        if 'torch._dynamo' in sys.modules:  # its limit of compilations is one of the process
            torch.compiler.reset()


@contextmanager
def _format_texts_once() -> Iterator[None]:
    """Keep what yapf returns: MMEngine formats a run's config four times, half a second each."""
    original, known = yapf_api.FormatCode, {}

    def format_once(text: str, **options):
        key = text, repr(options)
        if key not in known:
            known[key] = original(text, **options)
        return known[key]

    yapf_api.FormatCode = format_once
    try:
        yield
    finally:
        yapf_api.FormatCode = original


def _free_memory() -> None:
    """Free what earlier runs left, also those that raised: their frames are gone only now."""
    gc.collect()
    gc.freeze()  # MMEngine's data sets collect garbage, which would visit all that is imported
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _torch_settings() -> tuple:
    return (
        torch.get_num_threads(), torch.get_default_dtype(),
        (torch.are_deterministic_algorithms_enabled(),
         torch.is_deterministic_algorithms_warn_only_enabled()),
        (_CUDNN.benchmark, _CUDNN.deterministic),
    )


def _set_torch(threads, dtype, deterministic, cudnn) -> None:
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
    _CUDNN.benchmark, _CUDNN.deterministic = cudnn


def _forget_instances() -> None:
    """Remove MMEngine's named instances.

    Two runs of one second would have the same names, and the second would get those of the first.
    """
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    classes = [ManagerMixin]
    for one in classes:
        one._instance_dict.clear()
        classes += one.__subclasses__()
