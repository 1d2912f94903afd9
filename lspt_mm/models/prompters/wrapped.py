"""Base class of methods that add losses to another method."""

import copy
from typing import Any, Dict, List, Optional, Sequence, Tuple

from torch import Tensor, nn

from lspt_mm.models.block_adapter import BlockAdapter
from lspt_mm.models.observed import Observed
from lspt_mm.models.prompters.base import OF_THE_VIT, Prompter, Training, build_prompter

#: Arguments that the wrapper passes on.
_PASSED = ('num_tokens', 'dropout', 'start_block')


class WrappedPrompter(Prompter):
    """Runs another method; a subclass adds losses.

    Args:
        num_tokens: P of the other method, as ``dropout`` and ``start_block``.
        prompter: ``dict(type=..., **arguments)`` of the other method, without these three.

    Attributes:
        prompter (Prompter): The other method.
    """

    def __init__(
        self, num_tokens: int, prompter: dict, dropout: float = 0.0, start_block: int = 1, **vit
    ):
        super().__init__(num_tokens, dropout, start_block, **vit)
        name = type(self).__name__
        given = sorted(set(_PASSED) & set(prompter)) if isinstance(prompter, dict) else ()
        if given:
            raise ValueError(
                f'prompter={prompter!r}: {given[0]} is an argument of {name} itself, which passes '
                'it on'
            )
        if isinstance(prompter, dict):
            prompter = dict(prompter, **{key: getattr(self, key) for key in _PASSED})
        try:
            inner = build_prompter(prompter, **{key: getattr(self, key) for key in OF_THE_VIT})
        except ValueError as error:
            raise ValueError(f'{name}: {error}') from error
        self.prompter = inner

    # ---- the other method's forward pass --------------------------------------------------------

    def precompute(self) -> Optional[Tensor]:  # noqa: D102
        return self.prompter.precompute()

    def fuse(self) -> None:  # noqa: D102
        self.prompter.fuse()

    def unfuse(self) -> None:  # noqa: D102
        super().unfuse()
        inner = self._modules.get('prompter')  # the base class calls this before there is one
        if inner is not None:
            inner.unfuse()

    def strip(self) -> None:  # noqa: D102
        super().strip()
        self.prompter.strip()

    def check_vit(self, vit: nn.Module) -> None:  # noqa: D102
        self.prompter.check_vit(vit)

    def reads_output(self, l: int) -> bool:  # noqa: D102
        return self.prompter.reads_output(l)

    def input_independent(self, l: int) -> bool:  # noqa: D102
        return self.prompter.input_independent(l)

    def drop(self, prompts: Tensor) -> Tensor:  # noqa: D102
        return self.prompter.drop(prompts)

    def first(self, patches: Tensor, grid: Tuple[int, int]) -> Tuple[Optional[Tensor], Any]:  # noqa: D102
        return self.prompter.first(patches, grid)

    def next(self, l, prompts_in, prompts_out, patches, state):  # noqa: D102
        return self.prompter.next(l, prompts_in, prompts_out, patches, state)

    def temperature(self, l: int) -> Optional[Tensor]:  # noqa: D102
        return self.prompter.temperature(l)

    def keys_values(self, l: int) -> Optional[Sequence[Tensor]]:  # noqa: D102
        return self.prompter.keys_values(l)

    def adapter(self, l: int) -> Optional[BlockAdapter]:  # noqa: D102
        return self.prompter.adapter(l)

    def per_block_stats(self) -> Dict[str, Dict[int, float]]:  # noqa: D102
        return self.prompter.per_block_stats()

    def layout(self) -> Tuple[int, ...]:  # noqa: D102
        return self.prompter.layout()

    # ---- its training, to which a subclass adds -------------------------------------------------

    def parts(self) -> List[Prompter]:
        """The parts of the other method, then the wrapper."""
        return [*self.prompter.parts(), self]

    @property
    def needs_preparation(self) -> bool:
        """Whether the other method does; a subclass that prepares something adds its own."""
        return self.prompter.needs_preparation

    def observes(self, l: int) -> bool:  # noqa: D102
        return self.prompter.observes(l)

    def losses(
        self, vit: nn.Module, observed: Observed, labels: Optional[Tensor]
    ) -> Dict[str, Tensor]:
        """The other method's, by its name and theirs."""
        name = type(self.prompter).__name__.lower()
        found = self.prompter.losses(vit, observed, labels)
        return {f'{name}_{key}': value for key, value in found.items()}

    def before_step(self) -> None:  # noqa: D102
        self.prompter.before_step()

    def after_step(self) -> None:  # noqa: D102
        self.prompter.after_step()

    def consolidate(self, vit: nn.Module, batches) -> str:  # noqa: D102
        return self.prompter.consolidate(vit, batches)

    def after_epoch(self, training: Training) -> str:  # noqa: D102
        return self.prompter.after_epoch(training)


def without_dropout(prompter: Prompter) -> Prompter:
    """A view of a method, on the same parameters, that does not drop anything."""
    view = copy.copy(prompter)
    view.dropout = 0.0
    if isinstance(prompter, WrappedPrompter):
        view._modules = {**prompter._modules, 'prompter': without_dropout(prompter.prompter)}
    return view
