"""Writing checkpoint files of plain tensors and plain values, whole or not at all."""

import json
from pathlib import Path
from typing import Dict

import torch
from torch import Tensor

from lspt_mm.errors import InputError
from lspt_mm.whole_files import written_whole


def write_checkpoint(path: Path, tensors: Dict[str, Tensor], meta: dict) -> None:
    """Write ``tensors`` and ``meta`` as a .pth (``state_dict``, ``meta``) or .safetensors file.

    The file gets its name only when it is complete. ``meta`` is of strings, numbers, lists and
    dicts; in safetensors each of its values is JSON.

    Raises:
        InputError: If the suffix is another one, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in ('.pth', '.pt', '.safetensors'):
        raise InputError(f'{path}: expected a name that ends with .pth or .safetensors')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as unfinished:
            _write(unfinished, path.suffix, tensors, meta)
    except OSError as error:
        raise InputError(f'{path} cannot be written: {error}') from error


def _write(path: Path, suffix: str, tensors: Dict[str, Tensor], meta: dict) -> None:
    if suffix == '.safetensors':
        from safetensors.torch import save_file

        texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in meta.items()}
        save_file(_apart(tensors), path, metadata=texts)
    else:
        torch.save({'state_dict': _apart(tensors), 'meta': meta}, path)


def _apart(tensors: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Copies of the tensors.

    torch.save writes all of the storage that a view looks into, and safetensors takes no two that
    share one.
    """
    return {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
