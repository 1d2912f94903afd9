"""Reading checkpoint files without executing anything in them."""

import pickle
import re
from pathlib import Path
from urllib.parse import urlparse

import torch

from lspt_mm._compat import mmengine_checkpoints_allowed
from lspt_mm.errors import InputError


def is_url(source: str) -> bool:
    """Whether ``source`` names something to download rather than a file."""
    return urlparse(source).scheme in ('http', 'https')


def read_checkpoint(source: str) -> dict:
    """Read a checkpoint from a path or URL onto the CPU, tensors and plain values only.

    Args:
        source: A file as torch.save writes it, or its http(s) URL (kept in torch.hub's cache).

    Raises:
        InputError: If the file is absent, unreadable, or holds Python objects that a weights-only
            load refuses.
    """
    if is_url(source):
        return torch.hub.load_state_dict_from_url(
            source, map_location='cpu', weights_only=True, check_hash=False
        )
    path = Path(source)
    if not path.is_file():
        raise InputError(f'{path}: no such checkpoint file')
    try:
        with mmengine_checkpoints_allowed():
            content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(
            r'([Uu]nsupported .*?|the file asks .*?)( was not| whose module|: refused|$)',
            str(error),
        )
        reason = found[1] if found else str(error).splitlines()[0][:200]
        raise InputError(
            f'{path}: not read, as it holds more than tensors and plain values, or is damaged '
            f'({reason}). If you trust where it comes from, write its weights alone with '
            "torch.save(torch.load(FILE, weights_only=False)['model'], NEW_FILE) first"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(f'{path}: not a whole checkpoint file ({error})') from error
    if not isinstance(content, dict):
        raise InputError(f'{path}: holds a {type(content).__name__}, expected a dict of tensors')
    return content
