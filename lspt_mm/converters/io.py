"""Lists that are there as a whole or not at all."""

import json
import os
from pathlib import Path
from typing import Dict, List, Tuple

#: Images of a split in order: path relative to the data set's folder, label from 0.
Pairs = List[Tuple[str, int]]


def as_json(pairs: Pairs) -> str:
    """``{path: label}``, a line for each image."""
    return json.dumps(dict(pairs), indent=0, ensure_ascii=False) + '\n'


def as_lines(pairs: Pairs) -> str:
    """Lines ``path label``."""
    return ''.join(f'{name} {label}\n' for name, label in pairs)


def about_json(facts: dict) -> str:
    """The text of ``about.json``."""
    return json.dumps(facts, indent=1, ensure_ascii=False) + '\n'


def write_lists(folder: Path, texts: Dict[str, str]) -> None:
    """Write files of one folder that belong together.

    Each gets its name only when it is whole, and the former ones are gone before the first new
    one is there: a program that is stopped leaves some missing, but none beside another's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        _part(folder, name).write_text(text, encoding='utf-8')
    for name in texts:
        (folder / name).unlink(missing_ok=True)
    for name in texts:
        os.replace(_part(folder, name), folder / name)


def _part(folder: Path, name: str) -> Path:
    return folder / f'.{name}.part'
