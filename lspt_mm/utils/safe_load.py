"""Read checkpoints without executing anything in them."""

from contextlib import contextmanager
from typing import Callable, Iterator, List, Sequence, Tuple


def force_weights_only() -> None:
    """Make mmengine, in this process, read checkpoints without executing anything in them.

    onedl-mmengine tries ``weights_only=True`` and, where a file holds more than that allows, logs a
    warning and executes it. The tools call this; importing the package changes nothing.
    """
    from mmengine.runner import checkpoint

    if hasattr(checkpoint, '_safe_torch_load'):
        checkpoint._safe_torch_load = _load_plain_values


def _load_plain_values(file, map_location=None, weights_only=None):
    import torch

    with allow_mmengine_checkpoints():
        return torch.load(file, map_location=map_location, weights_only=True)


@contextmanager
def allow_mmengine_checkpoints(others: Sequence[type] = ()) -> Iterator[None]:
    """Inside, ``torch.load(..., weights_only=True)`` accepts mmengine's training checkpoints.

    It also accepts the classes in ``others``, which must be harmless to unpickle.
    """
    import torch

    # On exit torch's context manager removes all it was given, even what was allowed before.
    known = set(torch.serialization.get_safe_globals())
    new = [e for e in [*mmengine_checkpoint_globals(), *others] if e not in known]
    with torch.serialization.safe_globals(new):
        yield


def mmengine_checkpoint_globals() -> List[Tuple[Callable, str]]:
    """Globals in mmengine's training checkpoints, besides tensors and plain values.

    Pairs of an object and its name in the file, for torch's ``add_safe_globals``. numpy 2 moved
    two functions: both names are there, so that files of either version can be read.
    """
    import numpy as np
    from mmengine.logging.history_buffer import HistoryBuffer

    multiarray = (np._core if hasattr(np, '_core') else np.core).multiarray
    numbers = {type(np.dtype(code)) for code in '?bBhHiIlLqQefd'}
    return [
        (HistoryBuffer, 'mmengine.logging.history_buffer.HistoryBuffer'),
        (_statistic_of_history_buffer, 'builtins.getattr'),
        (np.ndarray, 'numpy.ndarray'),
        (np.dtype, 'numpy.dtype'),
        *((t, f'{t.__module__}.{t.__qualname__}') for t in numbers),
        *(
            (getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
            for core in ('core', '_core')
            for name in ('_reconstruct', 'scalar')
        ),
    ]


def _statistic_of_history_buffer(owner: type, name: str) -> Callable:
    """Stand in for ``getattr`` while a checkpoint is read.

    HistoryBuffer pickles its statistics as ``getattr(HistoryBuffer, 'min')`` and so on. The real
    ``getattr`` would let a file reach any function of the process; this one returns these four.
    """
    import pickle

    from mmengine.logging.history_buffer import HistoryBuffer

    if owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean'):
        return getattr(HistoryBuffer, name)
    raise pickle.UnpicklingError(f'the file asks for attribute {name!r} of {owner!r}: refused')
