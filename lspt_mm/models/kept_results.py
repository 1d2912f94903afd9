"""What follows from weights alone, kept between calls in eval mode: keys and values, gates."""

from typing import Any, Callable, Dict, Hashable, List, MutableMapping, NamedTuple, Tuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn


class _Source(NamedTuple):
    """A tensor that went in, as it was: held, so that no other one takes its place in memory."""

    tensor: Tensor
    address: int
    version: int

    def unchanged(self, tensor: Tensor) -> bool:
        return (
            tensor is self.tensor
            and tensor.data_ptr() == self.address
            and tensor._version == self.version
        )


#: The sources, what else the result depends on, and the result.
_Entry = Tuple[List[_Source], object, Any]


class KeptResults:
    """Results by prompter and name, and the tensors they were computed from.

    An entry holds as long as the tensors are the same ones and nobody has written to them. What
    PyTorch does not count is a write through ``tensor.data``: whoever does that (MMEngine's EMA
    does, before it calls ``eval()``) has to :meth:`clear`; models and prompters do so in
    ``train()``, ``eval()``, ``to()`` and when a state dict is loaded. Copies and files of the model
    start empty.
    """

    def __init__(self):
        self._held = False
        # A prompter that is gone takes its entries with it.
        self._entries: MutableMapping[nn.Module, Dict[Hashable, _Entry]] = WeakKeyDictionary()

    def __deepcopy__(self, memo) -> 'KeptResults':
        return KeptResults()

    def __reduce__(self):
        return KeptResults, ()

    def clear(self) -> None:
        """Forget everything."""
        self._held = False
        self._entries.clear()

    def hold(self) -> None:
        """Take what is kept as it is until :meth:`clear`, for a model that is traced."""
        self._held = True

    def usable(self, model: nn.Module) -> bool:
        """Whether results may be kept: in eval mode, without a graph, and not while tracing."""
        return self._held or not (
            model.training
            or torch.is_grad_enabled()
            or torch.compiler.is_compiling()
            or torch.jit.is_tracing()
        )

    def get(
        self,
        prompter: nn.Module,
        name: Hashable,
        sources: List[Tensor],
        dtype: torch.dtype,
        make: Callable[[], Any],
    ) -> Any:
        """The entry of this name if it still holds, or what ``make`` gives now.

        Args:
            prompter: Whose prompts it follows from.
            name: Of the result among the prompter's, a block's number for one.
            sources: All tensors that the result follows from.
            dtype: Of what goes in; autocast is seen to here.
            make: Computes the result.
        """
        if self._held:
            known = self._entries.get(prompter, {}).get(name)
            return make() if known is None else known[-1]
        if any(tensor.is_inference() for tensor in sources):  # these do not count their versions
            return make()
        device = sources[0].device.type
        precision = (dtype, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device))
        # Looked up once: another thread may replace the entry meanwhile.
        known = self._entries.get(prompter, {}).get(name)
        if known is not None:
            held, known_precision, result = known
            if (
                known_precision == precision
                and len(held) == len(sources)
                and all(one.unchanged(t) for one, t in zip(held, sources, strict=True))
            ):
                return result
        # Before the result is made: what is written meanwhile must not count as known.
        held = [_Source(t, t.data_ptr(), t._version) for t in sources]
        result = make()
        self._entries.setdefault(prompter, {})[name] = (held, precision, result)
        return result
