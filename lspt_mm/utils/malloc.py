"""Freed memory of glibc, kept for the next training step."""

import ctypes
import platform

import torch

#: glibc's parameters of ``mallopt`` (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Make the C library keep freed memory instead of returning it to the system.

    On a CPU the activations of a step are otherwise unmapped and mapped again, page by page: 7 to
    10 % of an LSPT step of ViT-B (docs/performance.md). The process stays as large as its largest
    step, so this is for training, where all steps are alike.

    Returns:
        bool: Whether it took effect; False without glibc, or with a GPU.
    """
    if torch.cuda.is_available() or platform.libc_ver()[0] != 'glibc':
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, 1 << 30) and mallopt(_TRIM_THRESHOLD, (1 << 31) - 1))
