"""Reading checkpoint files without executing anything in them."""

import argparse
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Dict

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from lspt_mm.checkpoints.download import local_file
from lspt_mm.errors import InputError
from lspt_mm.utils.atomic_io import atomic_write
from lspt_mm.utils.safe_load import allow_mmengine_checkpoints


def read_checkpoint(source: str) -> dict:
    """Read a checkpoint onto the CPU: tensors and plain values only.

    Args:
        source: Path or http(s) URL of a file written by torch.save, a .safetensors file or a
            NumPy .npz archive (detected from the content). A trailing ``#sha256=...`` is checked.

    Returns:
        dict: Content of the file. For safetensors, ``state_dict`` and ``meta`` (its metadata, JSON
        values parsed); for .npz, names to tensors.

    Raises:
        InputError: If the file is missing, unreadable, does not match its sha256, or holds Python
            objects that a weights-only load rejects.
    """
    path = local_file(source)
    with path.open('rb') as stream:
        start = stream.read(64)
    if start.startswith(b'version https://git-lfs'):
        raise InputError(f'{path}: a pointer of Git LFS, not the file itself; run: git lfs pull')
    if start.lstrip()[:1] == b'<':
        raise InputError(f'{path}: a web page, not a checkpoint; download the file itself')
    try:
        if _is_safetensors(path):
            return _read_safetensors(path)
        if _is_npz(path):
            return _read_npz(path)
        content = _read_torch(path)
    except pickle.UnpicklingError as error:
        found = re.search(
            r'([Uu]nsupported .*?|the file asks .*?)( was not| whose module|: refused|$)',
            str(error),
        )
        reason = found[1] if found else str(error).splitlines()[0][:200]
        raise InputError(
            f'{path}: refused, as it holds more than tensors and plain values, or is damaged '
            f'({reason}). If you trust its source, first save only its weights with '
            "torch.save(torch.load(FILE, weights_only=False)['model'], NEW_FILE)"
        ) from error
    # For damaged files, readers raise KeyError, IndexError, AssertionError and others.
    except Exception as error:
        told = str(error) or type(error).__name__
        raise InputError(f'{path}: not a complete checkpoint file ({told})') from error
    if not isinstance(content, dict):
        raise InputError(f'{path}: holds a {type(content).__name__}, expected a dict of tensors')
    return content


def _read_torch(path: Path):
    # Training files of MAE, DeiT and DINO contain their command line, a Namespace of plain values.
    with allow_mmengine_checkpoints([argparse.Namespace]):
        return torch.load(path, map_location='cpu', weights_only=True)


def _is_safetensors(path: Path) -> bool:
    """Whether a file starts like safetensors: the length of a header, then the JSON header."""
    with path.open('rb') as stream:
        start = stream.read(9)
    return path.suffix == '.safetensors' or (
        len(start) == 9 and start[8:] == b'{' and int.from_bytes(start[:8], 'little') < 2**27
    )


def _read_safetensors(path: Path) -> dict:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework='pt', device='cpu') as file:
            meta = {key: _parsed(text) for key, text in (file.metadata() or {}).items()}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return {'state_dict': state, 'meta': meta}


def _parsed(text: str):
    """Parse a metadata value as JSON if possible; otherwise return the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _is_npz(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return path.suffix == '.npz'
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return bool(names) and all(name.endswith('.npy') for name in names)


def _read_npz(path: Path) -> dict:
    import numpy as np

    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return {name: torch.from_numpy(a) for name, a in arrays.items() if a.dtype.kind in 'fiub'}


def write_checkpoint(path: Path, tensors: Dict[str, Tensor], meta: dict) -> None:
    """Write ``tensors`` and ``meta`` as a .pth (``state_dict``, ``meta``) or .safetensors file.

    The file gets its name only when it is complete. ``meta`` holds strings, numbers, lists and
    dicts; in safetensors each of its values is JSON.

    Raises:
        InputError: For any other suffix, or if the file cannot be written.
    """
    path = Path(path)
    if path.suffix not in ('.pth', '.pt', '.safetensors'):
        raise InputError(f'{path}: expected a name that ends with .pth or .safetensors')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as unfinished:
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
    """Copy the tensors, each to its own storage.

    torch.save writes the whole storage of a view, and safetensors rejects tensors that share one.
    """
    return {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}


def load_from_safetensors(filename: str, map_location=None) -> dict:
    """Read a .safetensors file for ``mmengine.runner.load_checkpoint`` and its callers."""
    return read_checkpoint(filename)  # on the CPU; load_state_dict copies to where the model is


def register() -> None:
    """Register the .safetensors loader with MMEngine; repeated calls change nothing."""
    # MMEngine uses the first pattern that matches a name; this one comes before the local one.
    CheckpointLoader.register_scheme(r'.*\.safetensors$', load_from_safetensors, force=True)
