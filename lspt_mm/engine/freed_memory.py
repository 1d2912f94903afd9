"""Memory that a training step frees is kept for the next step, on Linux's C library."""

import ctypes
import platform

import torch

#: glibc's parameters of ``mallopt`` (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed instead of giving it back to the system.

    On a CPU a step's activations are otherwise unmapped and mapped again, page by page, in every
    step: 7 to 10 % of an LSPT step of ViT-B (docs/performance.md). The process stays as large as
    its largest step, which is why this is for training, where all steps are alike.

    Returns:
        bool: Whether it is so now; False without glibc, or with a GPU, where tensors lie elsewhere.
    """
    if torch.cuda.is_available() or platform.libc_ver()[0] != 'glibc':
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, 1 << 30) and mallopt(_TRIM_THRESHOLD, (1 << 31) - 1))
