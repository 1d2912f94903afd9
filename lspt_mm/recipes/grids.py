"""Default grids of ``tools/search.py``: the papers' own."""

from typing import Dict, Tuple

from lspt_mm.recipes.experiment import Experiment
from lspt_mm.recipes.methods import get_method
from lspt_mm.recipes.published_values import BPT, GAPT, SPT, VPT_BASE_LR, VPT_WEIGHT_DECAY


def default_grid(exp: Experiment) -> Dict[str, Tuple[float, ...]]:
    """The default grid of an experiment: arguments to the values to try, in ascending order.

    - Methods with VPT's recipe: VPT's learning rates, scaled by the batch, and weight decays.
    - GaPT: the learning rates and gate inits that occur in its table; weight decay 0.
    - BPT, SPT: the learning rates and weight decays that occur in their scripts, supervised
      pre-training apart.
    - Full fine-tuning, LoRA and others with AdamW, fitted heads (none for a linear probe, which has
      no rates): ours.
    """
    method = get_method(exp.method)
    if method.recipe == 'adamw' or (exp.head == 'fitted' and method.recipe != 'full'):
        rates = tuple(method.lr * factor for factor in (0.2, 0.5, 1, 2, 5))
        return {} if exp.method == 'linear' else dict(lr=rates)
    if method.recipe == 'full':
        return dict(lr=(5e-5, 1e-4, 5e-4, 1e-3), weight_decay=(0.01, 0.05))
    if method.recipe in ('bpt', 'spt'):
        table = BPT if method.recipe == 'bpt' else SPT
        supervised = exp.pretraining == 'supervised'
        rows = [row for by_pretraining in table.values() for kind, row in by_pretraining.items()
                if (kind == 'supervised') == supervised]
        return dict(
            lr=_values(row.lr for row in rows), weight_decay=_values(r.weight_decay for r in rows)
        )
    if 'gate_init' in method.extra_args:
        rows = [row for by_pretraining in GAPT.values() for row in by_pretraining.values()]
        return dict(lr=_values(r.lr for r in rows), gate_init=_values(r.gate_init for r in rows))
    return dict(
        lr=_values(rate * exp.batch_size / 256 for rate in VPT_BASE_LR),
        weight_decay=_values(VPT_WEIGHT_DECAY),
    )


def _values(values) -> Tuple[float, ...]:
    return tuple(sorted(set(values)))
