"""What LSPT sees and makes in each block, before or after training (docs/lspt_study.md).

python -m lspt_mm measures RUN_OR_CONFIG [CHECKPOINT] --images 200 --out measures.csv
"""

from __future__ import annotations

import csv
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List

from lspt_mm.utils.cli import input_errors_as_messages, tool_parser

if TYPE_CHECKING:
    import torch

#: Columns after the block's number.
COLUMNS = {
    'patch_mean': 'norm of the mean patch, mean over images',
    'shared': 'share of the mean patch that is the same for all images: |mean|^2 / mean of |.|^2',
    'outputs': "norm of the block's outputs at the prompts",
    'prompts': 'norm of the prompts that enter the next block',
    'patches': 'norm of the patches, for comparison',
    'copies': 'mean cosine of pairs of prompts of an image that enter the next block',
    'of_image': 'share of the entering prompts that differs between images',
    'saturated': 'share of saturated gates',
}


class Watch:
    """Collects the arguments and results of a prompter's ``next``."""

    def __init__(self, prompter: torch.nn.Module):
        self.seen: Dict[int, List[tuple]] = {}
        self._next = prompter.next
        prompter.next = self

    def __call__(self, l: int, prompts_in, prompts_out, patches, state):
        """Run the step, and keep what it got and gave."""
        prompts, state = self._next(l, prompts_in, prompts_out, patches, state)
        outputs = prompts_out if prompts_out is not None else prompts.new_zeros(())
        expanded = prompts.expand(len(patches), -1, -1)
        kept = (patches.mean(1), outputs, expanded, patches.norm(dim=-1).mean(1))
        self.seen.setdefault(l, []).append(tuple(part.detach().float() for part in kept))
        return prompts, state


def measures(block: List[tuple]) -> Dict[str, float]:
    """The numbers of one block, from all batches."""
    import torch

    mean, outputs, prompts, patches = (torch.cat(part) if part[0].dim() else torch.stack(part)
                                       for part in zip(*block, strict=True))
    count = prompts.size(1)
    unit = torch.nn.functional.normalize(prompts, dim=-1)
    cosines = (unit @ unit.transpose(1, 2)).sum((1, 2)) - count
    return dict(
        patch_mean=_norm(mean), shared=_shared(mean), outputs=_norm(outputs),
        prompts=_norm(prompts), patches=float(patches.mean()),
        copies=float(cosines.mean()) / max(1, count * (count - 1)),
        of_image=1 - _shared(prompts.flatten(1)),
    )


def _norm(x: torch.Tensor) -> float:
    return float(x.norm(dim=-1).mean()) if x.dim() > 1 else float('nan')


def _shared(x: torch.Tensor) -> float:
    """Share of the mean square of vectors (n, D) that is their mean's."""
    return float(x.mean(0).square().sum() / x.square().sum(1).mean())


def watch_run(config: str, checkpoint: str, images: int) -> List[Dict[str, float]]:
    """A row for each block after which a step follows."""
    import torch
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import DATASETS, init_default_scope

    from lspt_mm.analysis.lstm_gates import GateTrace
    from lspt_mm.apis import init_model
    from lspt_mm.config.load import read_config
    from lspt_mm.tasks import task_of

    if checkpoint == 'start':
        cfg = read_config(config)
        init_default_scope(task_of(cfg).scope)
        torch.manual_seed(0)
        model = task_of(cfg).build(cfg)
        model.backbone.init_weights()
        model.eval()
    else:
        model = init_model(config, checkpoint, device='cpu')
        cfg = model.cfg
    data = DATASETS.build(cfg.val_dataloader.dataset)
    watch, trace = Watch(model.backbone.prompter), GateTrace.of(model.backbone.prompter)
    chosen = torch.linspace(0, len(data) - 1, min(images, len(data))).long().tolist()
    for start in range(0, len(chosen), 20):
        batch = pseudo_collate([data[i] for i in chosen[start : start + 20]])
        batch = model.data_preprocessor(batch, False)
        with torch.no_grad(), nullcontext() if trace is None else trace.watching():
            model.backbone(batch['inputs'])
    gates = {step.number: step for step in trace.result()} if trace is not None else {}
    rows = []
    for number, block in sorted(watch.seen.items()):
        row = dict(block=number, **measures(block))
        if number in gates:
            row['saturated'] = sum(gates[number].saturated.values()) / 4
        rows.append(row)
    return rows


def main() -> None:
    """Print and write the measures."""
    lines = '\n'.join(f'  {name}: {what}' for name, what in COLUMNS.items())
    parser = tool_parser(f'{__doc__}\nColumns:\n{lines}')
    parser.add_argument('run', help='folder of a run, or a config')
    parser.add_argument('checkpoint', nargs='?', help="file, or 'start': before training")
    parser.add_argument('--images', type=int, default=200, help='number of validation images')
    parser.add_argument('--out', type=Path, help='CSV to write')
    args = parser.parse_args()
    with input_errors_as_messages(args.debug):
        config, checkpoint = args.run, args.checkpoint
        if checkpoint is None:
            from lspt_mm.engine.work_dir import find_config_and_checkpoint

            config, checkpoint = find_config_and_checkpoint(config)
        rows = watch_run(str(config), str(checkpoint), args.images)
    names = ['block', *COLUMNS]
    print(' '.join(f'{name:>10}' for name in names))
    for row in rows:
        print(' '.join(f'{row.get(name, float("nan")):10.4g}' for name in names))
    if args.out:
        with open(args.out, 'w', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == '__main__':
    main()
