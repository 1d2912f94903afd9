"""Memory that was freed: kept for the next training step, or given back, on Linux's C library."""

import ctypes
import gc
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


def release_freed_memory() -> bool:
    """Give what is free back to the system, such as what reading a checkpoint needed.

    The C library keeps freed pieces below others that are in use; a service that loads several
    models one after another would stay larger by all they needed while they were loaded.

    Returns:
        bool: Whether some was given back; False without glibc.
    """
    gc.collect()
    if platform.libc_ver()[0] != 'glibc':
        return False
    return bool(ctypes.CDLL(None).malloc_trim(0))
