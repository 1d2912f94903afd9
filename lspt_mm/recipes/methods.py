"""The tuning methods by name: the prompter or LoRA of each, and what it trains."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

from lspt_mm.config.paths import config_dir
from lspt_mm.errors import InputError
from lspt_mm.utils.checks import check_choice


class Method(NamedTuple):
    """``method`` of ``configs/_base_/prompters/NAME.py``.

    Attributes:
        title: Name in tables.
        prompter: ``dict(type=..., num_tokens=..., ...)`` for ViT-B on ADE20K; None without prompts.
        tune: The backbone's ``tune``.
        recipe: Of the benchmarks: 'gapt' (SGD, GaPT's values per task), 'bpt', 'spt' (AdamW,
            theirs), 'adamw' (AdamW at ``lr``, ours) or 'full' (AdamW, ours).
        lr: Learning rate (AdamW) where the head starts from a fit (ours, docs/results.md).
        benchmarks: Arguments of the prompter that differ there. Without ``num_tokens`` among
            them, GaPT's table gives P.
        camvid: Arguments of the prompter that differ in ``configs/camvid``.
    """

    title: str
    prompter: Optional[Mapping[str, Any]] = None
    tune: str = 'prompts'
    recipe: str = 'gapt'
    lr: float = 5e-3
    benchmarks: Mapping[str, Any] = {}
    camvid: Mapping[str, Any] = {}

    @property
    def benchmark_prompter(self) -> Optional[dict]:
        """The prompter in the benchmarks, with P and gate init yet to be resolved."""
        return None if self.prompter is None else {**self.prompter, **self.benchmarks}

    @property
    def extra_args(self) -> Tuple[str, ...]:
        """Arguments of an experiment that only some methods have."""
        from lspt_mm.models.tuning import lora_rank

        found = [name for name in ('gate_init', 'rank') if name in (self.prompter or {})]
        return (*found, *(('rank',) if lora_rank(self.tune) else ()))

    def tune_of_rank(self, rank: Optional[int]) -> str:
        """:attr:`tune`, with a LoRA of ``rank``; None is the method's own."""
        return self.tune if rank is None else re.sub(r'lora-\d+', f'lora-{rank}', self.tune)

    def default_rank(self, num_tokens: int, width: int) -> int:
        """BPT's p for so many prompts: 75 of 100 (shallow), 50 of 50 (deep), as in its paper."""
        rank = self.prompter['rank'] * num_tokens // self.prompter['num_tokens']
        return min(max(1, rank), width)


class Methods(Mapping[str, Method]):
    """The methods by name: some without prompts, then those of ``configs/_base_/prompters``.

    A file is read when its method is first used, so that parsers get the names without MMEngine.

    Args:
        plain: Methods without prompts.
    """

    def __init__(self, plain: Dict[str, Method]):
        self._plain = dict(plain)
        files = sorted((config_dir() / '_base_' / 'prompters').glob('*.py'))
        self._files = {path.stem: path for path in files}

    def __getitem__(self, name: str) -> Method:
        return self._plain[name] if name in self._plain else _read(self._files[name])

    def __contains__(self, name) -> bool:
        return name in self._plain or name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter((*self._plain, *self._files))

    def __len__(self) -> int:
        return len(self._plain) + len(self._files)


@functools.cache
def _read(path: Path) -> Method:
    """The method of a file.

    Raises:
        InputError: If its ``method`` has no prompter, or values that :class:`Method` lacks.
    """
    from mmengine.config import Config

    values = Config.fromfile(path).to_dict()['method']
    unknown = values.keys() - set(Method._fields)
    if unknown or 'prompter' not in values:
        raise InputError(
            f'{path}: method has {", ".join(sorted(values))}; expected a prompter, and of '
            f'{", ".join(Method._fields)} what is needed'
        )
    return Method(**{'title': path.stem, **values})


#: Methods that ``method='auto'`` tries: the best of each kind on a real ViT (docs/results.md), and
#: LSPT.
AUTO, CANDIDATES = 'auto', ('vpt-deep', 'lspt', 'lora', 'bias')

#: Methods without prompts, besides the head alone.
PLAIN: Dict[str, Method] = {
    'bias': Method('Biases', tune='bias', recipe='adamw', lr=1e-3),
    'lora': Method('LoRA', tune='lora-8', recipe='adamw', lr=2e-3),
    'partial-1': Method('Last block', tune='partial-1', recipe='adamw', lr=1e-4),
    'full': Method('Full fine-tuning', tune='full', recipe='full'),
}
#: Name of the method to the method.
METHODS = Methods({'linear': Method('Linear probe'), **PLAIN})


def get_method(name: str) -> Method:
    """The method of this name; ValueError lists the known ones."""
    check_choice('method', name, METHODS)
    return METHODS[name]
