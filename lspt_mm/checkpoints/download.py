"""Downloads files from URLs, once and atomically."""

import re
from pathlib import Path
from typing import NamedTuple, Optional
from urllib.parse import urlparse

from lspt_mm.errors import InputError

_SHA256 = re.compile(r'#sha256=([0-9a-fA-F]*)$')


class Location(NamedTuple):
    """A path or URL, and the expected sha256 of its file (None: not given)."""

    place: str
    sha256: Optional[str]


def is_url(source: str) -> bool:
    """Whether ``source`` names something to download rather than a file."""
    return urlparse(source).scheme in ('http', 'https')


def split_sha256(source: str) -> Location:
    """Split ``#sha256=...`` off the end of a path or URL.

    Raises:
        InputError: If what follows is not 64 hexadecimal digits.
    """
    found = _SHA256.search(source)
    if not found:
        if is_url(source) and '#' in source:
            # HTTP would silently drop it, and so the check.
            raise InputError(
                f'{source}: expected sha256= and 64 hexadecimal digits after the # of a URL'
            )
        return Location(source, None)
    if len(found[1]) != 64:
        raise InputError(f'{source}: expected 64 hexadecimal digits after #sha256=')
    return Location(source[: found.start()], found[1].lower())


def existing_file(source: str) -> Optional[Path]:
    """The file that ``source`` (with or without ``#sha256=``) names; None if there is none."""
    path = Path(split_sha256(source).place).expanduser()
    return path if path.is_file() else None


def local_file(source: str) -> Path:
    """Local path of ``source`` (path or URL, with or without ``#sha256=``).

    A URL is downloaded once, to torch.hub's checkpoint folder. The file gets its name only when it
    is complete and its sha256 matches, if one is given. An interrupted download starts again at
    the next call. Of several processes one downloads and the others wait.

    Raises:
        InputError: If the file does not exist, cannot be fetched, or has another sha256.
    """
    place, sha256 = split_sha256(source)
    if is_url(place):
        return _fetch(place, sha256)
    path = Path(place).expanduser()
    if not path.is_file():
        raise InputError(f'{path}: no such checkpoint file')
    if sha256 is not None:
        _check(path, sha256)
    return path


def _fetch(url: str, sha256: Optional[str]) -> Path:
    # Imported here: few runs download anything.
    import pooch
    import requests
    import torch
    from filelock import FileLock

    pooch.get_logger().setLevel('WARNING')
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    folder.mkdir(parents=True, exist_ok=True)
    name = pooch.utils.unique_file_name(url)  # two hosts may use one file name
    try:
        with FileLock(str(folder / f'{name}.lock')):
            return Path(pooch.retrieve(url, sha256 and f'sha256:{sha256}', name, folder))
    except (requests.RequestException, OSError) as error:
        raise InputError(
            f'{url}: cannot be downloaded ({error}). Download it yourself and give the file: '
            '--pretrained FILE'
        ) from error
    except ValueError as error:  # pooch's error for another hash; no file is kept
        raise InputError(
            f'{url}: the downloaded file does not have the sha256 {sha256}: it is another version '
            'or another file'
        ) from error


def _check(path: Path, sha256: str) -> None:
    import pooch

    found = pooch.file_hash(str(path), 'sha256')
    if found != sha256:
        raise InputError(f'{path}: its sha256 is {found}, expected {sha256}')
