"""Sizes of checkpoints for every method on ViT-B/16, as files: a Markdown table.

For the prompters of configs/_base_/prompters, as on ADE20K, with a linear head; the
ViT's values are random, which makes no difference to a file's size. Takes a minute.

python tools/analysis_tools/checkpoint_sizes.py --classes 200

Parts of one segmentation or classification config, in memory and without training state:

python tools/analysis_tools/checkpoint_sizes.py --config configs/lspt_upernet_ade20k.py
"""

import argparse
import tempfile
from pathlib import Path


def megabytes(path: Path, state: dict) -> float:
    """Size of ``state`` as a file, in 10^6 bytes."""
    from lspt_mm.checkpoints.io import write_checkpoint

    write_checkpoint(path, state, {})
    size = path.stat().st_size / 1e6
    path.unlink()
    return size


def main() -> None:
    """Print the table, or one config's parts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--classes', type=int, default=200, help='of the linear head')
    parser.add_argument('--config', help='the parts of this config instead of the table')
    args = parser.parse_args()
    if args.config:
        print(parts(args.config))
    else:
        print_table(args.classes)


def parts(config: str) -> str:
    """Sizes of what a prompt-only checkpoint of ``config`` holds."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    from lspt_mm.checkpoints.prompt_only import strip_base_weights
    from lspt_mm.checkpoints.publishing import size_table
    from lspt_mm.checkpoints.records import record_of
    from lspt_mm.engine.runner import prepare_for_cpu

    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    cfg.launcher = 'none'
    prepare_for_cpu(cfg)
    model = MODELS.build(cfg.model)
    # As after loading ImageNet's grid of 224 pixels: another grid is resized, and kept.
    same = tuple(model.backbone.patch_resolution) == (14, 14)
    modified = () if same else ('pos_embed',)
    model.backbone.weights = model.backbone.weights._replace(modified=modified)
    record = record_of(model.backbone, 'vit.pth')
    return size_table(strip_base_weights(model.state_dict(), 'backbone', record))


def print_table(classes: int) -> None:
    """All methods on ViT-B/16 with a linear head."""
    import torch

    from lspt_mm.checkpoints.prompt_only import strip_base_weights
    from lspt_mm.checkpoints.records import record_of
    from lspt_mm.models import PromptedViT
    from lspt_mm.recipes import METHODS

    head = torch.nn.Linear(768, classes).state_dict()
    print('| method | prompter | parameters | prompts alone | with the head | everything |')
    print('|---|---|---|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'size.pth'
        for name, method in METHODS.items():
            prompter = method.prompter
            if prompter is None or method.tune != 'prompts':
                continue
            vit = PromptedViT('base', prompter=prompter, tune='prompts')
            vit.weights = vit.weights._replace(modified=())
            state = {f'backbone.{k}': v for k, v in vit.state_dict().items()}
            record = record_of(vit, 'mae_pretrain_vit_base.pth')
            small = strip_base_weights(state, 'backbone', record)
            with_head = {f'head.fc.{k}': v for k, v in head.items()}
            count = sum(p.numel() for p in vit.prompter.parameters())
            arguments = ', '.join(f'{k}={v}' for k, v in prompter.items() if k != 'type')
            sizes = [megabytes(path, s) for s in (small, {**small, **with_head},
                                                  {**state, **with_head})]  # fmt: skip
            print(
                f'| `{name}` | {prompter["type"]}({arguments}) | {count:,} | '
                + ' | '.join(f'{size:.2f} MB' for size in sizes)
                + ' |'
            )


if __name__ == '__main__':
    main()
