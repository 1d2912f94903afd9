"""Writes published checkpoints and their model cards."""

import json
import os
from pathlib import Path
from typing import Dict, Optional

import pooch
from torch import Tensor

from lspt_mm.checkpoints.io import write_checkpoint
from lspt_mm.checkpoints.records import RECORD, BaseRecord
from lspt_mm.utils.text import format_table
from lspt_mm.version import __version__

#: Sources of timm's weights in a folder.
LOCAL_DIR = 'timm:local-dir:'
#: Keys of configs whose values may be relative folders of this machine.
PLACES = ('data_root', 'data', 'task')


def write_published(stem: Path, suffix: str, tensors: Dict[str, Tensor], meta: dict) -> Path:
    """Write ``STEM-<first 8 digits of its sha256>SUFFIX``, as OpenMMLab names files; return it."""
    unnamed = stem.with_name(f'{stem.name}-unnamed{suffix}')
    write_checkpoint(unnamed, tensors, meta)
    digest = pooch.file_hash(str(unnamed), 'sha256')
    path = stem.with_name(f'{stem.name}-{digest[:8]}{suffix}')
    os.replace(unnamed, path)
    return path


def public_source(source: str) -> str:
    """Remove local folders from the source of a base."""
    if source.startswith(LOCAL_DIR):
        return LOCAL_DIR + Path(source.removeprefix(LOCAL_DIR)).name
    local = '://' not in source and not source.startswith('timm:')
    return Path(source).name if local else source


def without_folders(node):
    """Remove local folders from the paths in a config."""
    if isinstance(node, dict):
        return type(node)({
            key: public_source(value) if key in PLACES and isinstance(value, str)
            else without_folders(value) for key, value in node.items()
        })
    if isinstance(node, (list, tuple)):
        return type(node)(without_folders(value) for value in node)
    if isinstance(node, str) and node.startswith(LOCAL_DIR):
        return public_source(node)
    if isinstance(node, str) and (Path(node).is_absolute() or node.startswith(('~', '..'))):
        return Path(node).name
    return node


def plain_dataset_meta(meta: Optional[dict]) -> dict:
    """Classes and palette as lists of strings and integers, as OpenMMLab's inference reads them."""
    kept = {}
    for key in ('classes', 'palette'):
        value = (meta or {}).get(key)
        if value is not None:
            kept[key] = [str(v) if isinstance(v, str) else [int(i) for i in v] for v in value]
    return kept


def model_card(
    path: Path,
    records: Dict[str, BaseRecord],
    sizes: str,
    config: str,
    content: str,
    facts: Dict[str, str],
) -> str:
    """Write the model card as Markdown.

    Args:
        path: The published file.
        records: The file's records of its ViTs, by the backbone's name.
        sizes: The size table of its parts.
        config: Text of the config.
        content: Description of what the file holds.
        facts: Title to text: data set, metric, licence of the base and the like.
    """
    lines = [f'# {path.stem}', '', content, '']
    lines += [f'- **{title}**: {text}' for title, text in facts.items()]
    for name, record in records.items():
        prompter = record.prompter or {'type': 'none'}
        arguments = {k: v for k, v in prompter.items() if k != 'type'}
        arch = ', '.join(f'{k}={v}' for k, v in record.arch.items())
        lines += [
            f'- **Method** ({name}): {prompter["type"]} {json.dumps(arguments)}, '
            f'tune={record.tune!r}',
            f'- **Base** ({name}): {record.source}; {arch}; fingerprint of the tensors left out '
            f'`{record.fingerprint}`',
        ]
    lines += [f'- **Written by**: lspt_mm {__version__}', '']
    lines += ['## Size', '', '```', sizes, '```', '']
    lines += ['## Config', '', '```python', config.rstrip(), '```', '']
    return '\n'.join(lines)


def size_table(state: dict) -> str:
    """Table of the megabytes (10^6 bytes) of a state dict's parts; prompts are a separate part."""
    parts: Dict[str, int] = {}
    for key, tensor in state.items():
        pieces = key.split('.')
        part = 'prompts' if 'prompter' in pieces else pieces[0]
        if RECORD not in pieces:
            parts[part] = parts.get(part, 0) + tensor.numel() * tensor.element_size()
    total = sum(parts.values())
    rows = [
        (part, f'{size / 1e6:.3f} MB', f'{size / max(total, 1):.2%}')
        for part, size in [*parts.items(), ('all', total)]
    ]
    return format_table(rows, '<>>')
