"""Downloads files from URLs, once and atomically."""

import re
from pathlib import Path
from typing import NamedTuple, Optional
from urllib.parse import urlparse

from lspt_mm.errors import InputError

_SHA256 = re.compile(r'#sha256=([0-9a-fA-F]*)$')


class Location(NamedTuple):
    """A path or URL, and the sha256 its file must have (None: not given)."""

    place: str
    sha256: Optional[str]


def is_url(source: str) -> bool:
    """Whether ``source`` names something to download rather than a file."""
    return urlparse(source).scheme in ('http', 'https')


def split_sha256(source: str) -> Location:
    """Take ``#sha256=...`` off the end of a path or URL.

    Raises:
        InputError: If what follows is not 64 hexadecimal digits.
    """
    found = _SHA256.search(source)
    if not found:
        if is_url(source) and '#' in source:
            # HTTP would drop it without a word, and the check with it.
            raise InputError(
                f'{source}: after a URL, # is expected to be followed by sha256= and 64 '
                'hexadecimal digits'
            )
        return Location(source, None)
    if len(found[1]) != 64:
        raise InputError(f'{source}: expected 64 hexadecimal digits after #sha256=')
    return Location(source[: found.start()], found[1].lower())


def local_file(source: str) -> Path:
    """The file that ``source`` (path or URL, with or without ``#sha256=``) stands for.

    A URL's file is kept in torch.hub's folder of checkpoints and fetched once. It gets its name
    there only when it is complete, and has the sha256 if one is given; a transfer that was cut
    starts anew at the next call. Of several processes one fetches, the others wait.

    Raises:
        InputError: If there is no such file, it cannot be fetched, or it has another sha256.
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
            f'{url}: cannot be downloaded ({error}). Fetch it by other means and name the file: '
            '--pretrained FILE'
        ) from error
    except ValueError as error:  # pooch's word for another hash; nothing is kept
        raise InputError(
            f'{url}: what was downloaded has not the sha256 {sha256}: another version, or not '
            'what it claims to be'
        ) from error


def _check(path: Path, sha256: str) -> None:
    import pooch

    found = pooch.file_hash(str(path), 'sha256')
    if found != sha256:
        raise InputError(f'{path}: its sha256 is {found}, expected {sha256}')
