"""Arguments of a config file: ``configs/vtab1k/transfer.py:task=dtd,method=gated``."""

import ast
import os
import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Dict, Iterator, Optional, Tuple

from lspt_mm.config.paths import config_dir
from lspt_mm.errors import InputError

#: Benchmarks whose experiments have names, ``BENCHMARK/METHOD_PRETRAINING_TASK``.
NAMED = ('fgvc', 'vtab1k')

#: A colon before `name=`, or before a malformed argument and then `, name=`.
_BEFORE_ARGUMENTS = re.compile(r':(?=\s*\w*\s*=|[^:/\\]*,\s*\w+\s*=)')


#: Arguments that are names of files or folders.
_PLACES = ('data', 'pretrained', 'pretraining', 'task')


class _Passed:
    """Arguments for the config file being read; ``used`` once the file has read them."""

    def __init__(self, values: Dict[str, Any]):
        self.values = values
        self.used = False


# MMEngine executes a config file and its bases without arguments, so they are passed here.
_passed: ContextVar[Optional[_Passed]] = ContextVar('config_arguments', default=None)


@contextmanager
def pass_arguments(values: Dict[str, Any]) -> Iterator[None]:
    """Pass ``values`` to the config file read in this block, which calls :func:`config_arguments`.

    Raises:
        InputError: If the file takes no arguments.
    """
    passed = _Passed(values)
    token = _passed.set(passed)
    try:
        yield
    finally:
        _passed.reset(token)
    if values and not passed.used:
        raise InputError(
            f'the config takes no arguments, but got {", ".join(values)}; to change a value '
            'of an ordinary config: --cfg-options KEY=VALUE'
        )


def config_arguments() -> Dict[str, Any]:
    """Arguments of the config being read, {} without any; called by the config's own code."""
    passed = _passed.get()
    if passed is None:
        return {}
    passed.used = True
    return dict(passed.values)


def split_arguments(config: str) -> Tuple[str, Dict[str, Any]]:
    """Split ``PATH``, ``PATH:name=value,...`` or an experiment's name into path and arguments.

    An experiment's name is ``BENCHMARK/METHOD_PRETRAINING_TASK`` (``vtab1k/lspt_mae_eurosat``),
    with or without further arguments after it.

    Raises:
        InputError: For malformed arguments.
    """
    path, text = _divided(config)
    values = {}
    try:
        parts = [*split_list(text)]
    except InputError as error:
        raise InputError(f'config {config}: {error}') from error
    for part in parts:
        name, equals, value = part.partition('=')
        if not equals or not name.strip().isidentifier():
            raise InputError(f'config {config}: {part!r}: expected name=value after the colon')
        if name.strip() in values:
            raise InputError(f'config {config}: {name.strip()} is given twice')
        values[name.strip()] = _value(name.strip(), value.strip())
    benchmark, slash, name = path.partition('/')
    parts = name.split('_', 2)
    if slash and benchmark in NAMED and len(parts) == 3 and not path.endswith('.py'):
        named = dict(zip(('method', 'pretraining', 'task'), parts, strict=True))
        for name in named.keys() & values.keys():
            raise InputError(f'config {config}: {name} is in the name already')
        return str(config_dir() / benchmark / 'transfer.py'), {**named, **values}
    return path, values


def _value(name: str, text: str) -> Any:
    """The value of an argument; one that names a file or folder may look like a number."""
    value = parse(text)
    return text if name in _PLACES and isinstance(value, (int, float)) else value


def _divided(config: str) -> Tuple[str, str]:
    """Split off the text after the colon that starts the arguments."""
    # A path may contain a colon or look like an argument (C:\..., lr=0.1/); a value may contain a
    # colon (timm:NAME, a URL).
    if os.path.exists(config):
        return config, ''
    places = [found.start() for found in _BEFORE_ARGUMENTS.finditer(config)]
    if not places:
        return config, ''
    place = next((p for p in places if os.path.isfile(config[:p])), places[0])
    return config[:place], config[place + 1 :]


def split_list(text: str) -> Iterator[str]:
    """Split at commas that are not inside brackets or a quoted text.

    Raises:
        InputError: For an unmatched bracket or quote before a comma.
    """
    depth, part, quote = 0, '', ''
    for character in text:
        if quote:
            quote = '' if character == quote else quote
        elif character in '\'"' and part.strip()[-1:] in ('', *'=:,[({'):
            quote = character
        else:
            depth += (character in '([{') - (character in ')]}')
        if character == ',' and depth == 0 and not quote:
            yield part
            part = ''
        else:
            part += character
    if (depth or quote) and ',' in part:
        raise InputError(f'{part}: an unmatched bracket or quote; quote a value that has one')
    if part.strip() or text.strip():
        yield part


def parse(text: str) -> Any:
    """Parse a Python literal; other text is returned as it is."""
    try:
        return ast.literal_eval(text)
    # TypeError for {[]: 1}, the last two for very deep nesting.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {'true': True, 'false': False}.get(text.lower(), text)  # 'none' may be a choice
