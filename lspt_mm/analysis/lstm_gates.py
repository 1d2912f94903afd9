"""Gates and cell state of an LSTM over depth, such as LSPT's, block by block."""

from contextlib import contextmanager
from typing import Dict, Iterator, List, NamedTuple, Optional

import torch
from torch import Tensor

from lspt_mm.models.prompters.base import Prompter

GATES = ('input', 'forget', 'candidate', 'output')


class StepGates(NamedTuple):
    """Statistics of one step, between block ``number`` and the next.

    Taken over images, prompts and channels.

    ``mean``: name of a gate to its mean, 0 to 1 (of the candidate: of its absolute value).
    ``saturated``: share of its values beyond 0.95 or below 0.05 (of the candidate: beyond 0.95 in
    absolute value). ``cell``: root mean square of the cell state after the step.
    """

    number: int
    mean: Dict[str, float]
    saturated: Dict[str, float]
    cell: float


class GateTrace:
    """Collects the gates of a prompter's ``lstm`` while its ViT runs in :meth:`watching`.

    Args:
        prompter: Has a cell of :mod:`lspt_mm.models.prompters.lstm_cells` as ``lstm``, and takes a
            step of it after every block from ``start_block`` on.
    """

    @classmethod
    def of(cls, prompter: Optional[Prompter]) -> 'Optional[GateTrace]':
        """A trace of the prompter, None if it has no LSTM."""
        return None if getattr(prompter, 'lstm', None) is None else cls(prompter)

    def __init__(self, prompter: Prompter):
        self._prompter = prompter
        self._found: Dict[int, List[Tensor]] = {}
        self._step = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record the gates while the ViT runs once on some images."""
        self._step = self._prompter.start_block
        handle = self._prompter.lstm.register_forward_hook(self._look)
        try:
            yield
        finally:
            handle.remove()

    def _look(self, cell, arguments, outcome) -> None:
        input_gates, hidden = arguments[:2]
        gates = (input_gates + cell.from_hidden(hidden)).double()
        i, f, g, o = gates.chunk(4, dim=-1)
        values = [i.sigmoid(), f.sigmoid(), g.tanh().abs(), o.sigmoid()]
        row = [v.mean() for v in values]
        row += [((v > 0.95) | ((v < 0.05) & (n != 2))).double().mean()
                for n, v in enumerate(values)]
        row.append(outcome[1].double().square().mean())
        self._found.setdefault(self._step, []).append(torch.stack(row).cpu())
        self._step += 1

    def result(self) -> List[StepGates]:
        """Means over all batches; images weigh the same if batches are of equal size."""
        steps = []
        for number, rows in sorted(self._found.items()):
            row = torch.stack(rows).mean(0).tolist()
            steps.append(
                StepGates(
                    number,
                    dict(zip(GATES, row[:4], strict=True)),
                    dict(zip(GATES, row[4:8], strict=True)),
                    row[8] ** 0.5,
                )
            )
        return steps
