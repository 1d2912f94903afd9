"""Exit codes, error messages and checks that all command-line tools share."""

import os
import sys
import tempfile
import traceback
from contextlib import contextmanager
from typing import Iterator

import torch

from lspt_mm.errors import InputError

#: Exit code for an error of the user's input (argparse's own code for a bad option).
EXIT_INPUT = 2


def check_writable(folder, what: str, advice: str = '') -> None:
    """Raise InputError, with ``what`` and ``advice``, if nothing can be written to ``folder``.

    It is made.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f'{what} cannot be written: {error}{advice}') from error


@contextmanager
def input_errors_as_messages(debug: bool = False) -> Iterator[None]:
    """End the program with code 2 and the message alone when the input is at fault.

    Of several processes the first to fail tells it, whichever that is.
    """
    try:
        yield
    except InputError as error:
        if debug:
            traceback.print_exc()
        # From a loader's worker process the message comes wrapped in its traceback.
        message = str(error).split(f'{InputError.__name__}: ')[-1].strip()
        rank = int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0)))
        if debug or _is_first_to_fail():
            who = f' (process {rank})' if rank else ''
            print(f'error{who}: {message}', file=sys.stderr, flush=True)
        sys.exit(EXIT_INPUT)


def _is_first_to_fail() -> bool:
    """Whether no other process of this run has told of an error."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        try:
            store = torch.distributed.distributed_c10d._get_default_store()
            return store.add('lspt_mm/failed', 1) == 1
        except RuntimeError:  # the process that kept it is gone
            return True
    # What fails before processes know each other fails alike on a machine.
    return all(int(os.environ.get(name, 0)) == 0 for name in ('LOCAL_RANK', 'SLURM_LOCALID'))


def check_device(device: str) -> torch.device:
    """A device that is there.

    Raises:
        InputError: If it is not.
    """
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        told = str(error).splitlines()[0]
        raise InputError(f'device {device}: cannot be used here ({told}); try cpu') from error
    return found
