"""Freed memory that is kept: counted in pages, in a process of its own."""

import platform
import resource
import subprocess
import sys

import pytest

from lspt_mm.utils.malloc import keep_freed_memory

COUNT = """
import resource, sys
import torch
from lspt_mm.utils.malloc import keep_freed_memory

torch.set_num_threads(1)
if sys.argv[1] == 'keep':
    assert keep_freed_memory()

def step():
    return [torch.ones(1 << 24) for _ in range(4)]  # 64 MiB each

for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(choice):
    run = subprocess.run(
        [sys.executable, '-c', COUNT, choice], capture_output=True, text=True, check=True
    )
    return int(run.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='of glibc')
def test_pages_are_not_mapped_anew_in_every_step():
    given_back, kept = faults('leave'), faults('keep')
    pages = 4 * (1 << 26) // resource.getpagesize()
    # Huge pages may stand for many small ones, but never for none.
    assert given_back > 0
    assert kept < min(given_back, 0.01 * pages)


def test_without_glibc_nothing_is_done(monkeypatch):
    monkeypatch.setattr(platform, 'libc_ver', lambda: ('', ''))
    assert keep_freed_memory() is False
