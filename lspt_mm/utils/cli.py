"""What command-line tools share: exit codes, error messages, checks, progress bars."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Iterator, Optional, Sequence

from lspt_mm.errors import InputError
from lspt_mm.utils.installed import require_when_imported

if TYPE_CHECKING:
    import torch

#: Exit code for an error of the user's input (argparse's own code for a bad option).
EXIT_INPUT = 2
#: Exit code after Ctrl-C, as of a shell.
EXIT_INTERRUPTED = 130

#: Warnings about defaults of the stack, as regular expressions of their text and module.
_KNOWN_WARNINGS = (
    ('Default ``avg_non_ignore`` is False', r'mmseg\.models\.losses\.'),
    ('``build_loss`` would be deprecated', r'mmseg\.models\.builder'),
    ('For binary segmentation, we suggest', r'mmseg\.models\.decode_heads\.'),
    ('This DataLoader will create', r'torch\.utils\.data\.'),
    ('The draw is False', r'mmseg\.engine\.hooks\.visualization_hook'),
)


class _ToolParser(argparse.ArgumentParser):
    def parse_args(self, args=None, namespace=None):
        return self.parse_intermixed_args(args, namespace)  # options between paths, too


def tool_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the option ``--debug``; its help prints the description as it is.

    Options may stand before, between and after other arguments.
    """
    parser = _ToolParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--debug', action='store_true', help='show tracebacks of input errors')
    return parser


def check_writable(folder, what: str, advice: str = '') -> None:
    """Make ``folder``; raise InputError, with ``what`` and ``advice``, if it is not writable."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f'{what} cannot be written: {error}{advice}') from error


def map_with_progress(function: Callable, items: Sequence, title: str) -> list:
    """Results of ``function`` for all items, in order, by threads; a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import track

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # image decoders release Python's lock
        results = pool.map(function, items)
        bar = track(results, title, len(items), console=Console(stderr=True), transient=True)
        return list(bar)


def ignore_known_warnings() -> None:
    """Ignore warnings about defaults of the stack, unless Python has an option ``-W``."""
    if not sys.warnoptions:
        for message, module in _KNOWN_WARNINGS:
            warnings.filterwarnings('ignore', message, UserWarning, module)


@contextmanager
def input_errors_as_messages(debug: bool = False) -> Iterator[None]:
    """On an InputError, print its message alone and exit with code 2; on Ctrl-C with code 130.

    The same if an optional package is not installed.

    Of several processes only the first to fail prints. Warnings are those of
    :func:`ignore_known_warnings`.
    """
    ignore_known_warnings()
    try:
        with any_image_size(), require_when_imported():
            yield
    except InputError as error:
        if debug:
            traceback.print_exc()
        # From a loader's worker process the message comes wrapped in its traceback.
        message = str(error).split(f'{InputError.__name__}: ')[-1].strip()
        rank = int(os.environ.get('RANK', 0))
        if debug or _is_first_to_fail():
            who = f' (process {rank})' if rank else ''
            print(f'error{who}: {message}', file=sys.stderr, flush=True)
        sys.exit(EXIT_INPUT)
    except KeyboardInterrupt:
        if debug:
            raise
        print('interrupted', file=sys.stderr, flush=True)
        sys.exit(EXIT_INTERRUPTED)


@contextmanager
def any_image_size() -> Iterator[None]:
    """Lift Pillow's limit of 179 megapixels: files that a user names are the user's own."""
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _is_first_to_fail() -> bool:
    """Whether no other process of this run has printed an error."""
    torch = sys.modules.get('torch')  # without it, processes do not know each other
    if torch and torch.distributed.is_available() and torch.distributed.is_initialized():
        try:
            store = torch.distributed.distributed_c10d._get_default_store()
            return store.add('lspt_mm/failed', 1) == 1
        except RuntimeError:  # the process with the store has exited
            return True
    # Before processes know each other, all of a machine fail alike.
    return int(os.environ.get('LOCAL_RANK', 0)) == 0


def check_device(device: Optional[str]) -> torch.device:
    """The device of this name, None: a GPU if there is one; InputError if it is not available."""
    import torch

    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f'device {device}: cannot be used here ({reason}); try cpu') from error
    return found
