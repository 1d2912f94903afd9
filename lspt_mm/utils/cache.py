"""Location of the cache, and digests that identify files."""

import os
from pathlib import Path
from typing import Iterable

import pooch

#: Environment variable with the folder, instead of the user's cache.
CACHE = 'LSPT_MM_CACHE'


def cache_folder() -> Path:
    """The folder of the cache."""
    return Path(os.environ.get(CACHE) or pooch.os_cache('lspt_mm'))


def digest_samples(digest, samples: Iterable[dict]) -> None:
    """Add places, sizes and times of the samples' files, and their labels, to a hashlib digest.

    The place is the real path: a relative one stands for other files in another working folder.
    """
    for sample in samples:
        for key in ('img_path', 'seg_map_path', 'gt_label'):
            value = sample.get(key)
            if isinstance(value, str) and os.path.exists(value):
                stat = os.stat(value)
                value = f'{os.path.realpath(value)} {stat.st_size} {stat.st_mtime_ns}'
            digest.update(f'{key}={value}'.encode(errors='surrogateescape'))
