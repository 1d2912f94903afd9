"""Digests of a run's final state, which are equal exactly if two runs ended alike."""

import hashlib
import json
from typing import Any

import torch

from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.engine.hooks.jsonl_logger_hook import read_log

#: Keys of a checkpoint that depend on the run alone, not on when and where it was written.
_OF_THE_RUN = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')


def checkpoint_digest(path: str) -> str:
    """sha256 over weights, optimizer and schedules of a checkpoint, names and types included."""
    content = read_checkpoint(str(path))
    total = hashlib.sha256()
    for key in _OF_THE_RUN:
        _add(total, content.get(key))
    for key in ('iter', 'epoch'):
        _add(total, content['meta'][key])
    return total.hexdigest()


def log_digest(work_dir: str) -> str:
    """sha256 over the lines of a run's ``log.jsonl``."""
    lines = '\n'.join(json.dumps(line, sort_keys=True) for line in read_log(work_dir))
    return hashlib.sha256(lines.encode()).hexdigest()


def _add(total, node: Any) -> None:
    """Add a nest of dicts, lists, tensors and plain values."""
    if isinstance(node, dict):
        total.update(f'{{{len(node)}'.encode())
        for key, value in node.items():
            total.update(repr(key).encode())
            _add(total, value)
    elif isinstance(node, (list, tuple)):
        total.update(f'[{len(node)}'.encode())
        for value in node:
            _add(total, value)
    elif isinstance(node, torch.Tensor):
        tensor = node.detach().cpu().contiguous()
        total.update(f'{tensor.dtype}{tuple(tensor.shape)}'.encode())
        if tensor.numel():
            total.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    else:
        total.update(repr(node).encode())
