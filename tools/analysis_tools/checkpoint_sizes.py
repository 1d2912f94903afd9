"""Sizes of checkpoints for every method on ViT-B/16, as files: a Markdown table.

For the prompters of configs/lspt_upernet_ade20k.py and configs/ade20k/, with a linear head; the
ViT's values are random, which makes no difference to a file's size. Takes a minute.

python tools/analysis_tools/checkpoint_sizes.py --classes 200
"""

import argparse
import tempfile
from pathlib import Path

import lspt_mm  # noqa: F401  (repairs the stack before anything imports torchvision)
from lspt_mm.checkpoints.prompts import frozen_base, record_of, without_base
from lspt_mm.checkpoints.writing import write_checkpoint
from lspt_mm.models import PromptedViT

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def methods() -> dict:
    """Name to prompter config, from the ADE20K configs."""
    from mmengine.config import Config

    files = {'lspt': CONFIGS / 'lspt_upernet_ade20k.py'}
    for path in sorted((CONFIGS / 'ade20k').glob('*_upernet_ade20k.py')):
        files[path.name[: -len('_upernet_ade20k.py')]] = path
    found = {}
    for name, path in files.items():
        backbone = Config.fromfile(path).model.backbone
        if backbone.get('prompter') and backbone.tune == 'prompts' and backbone.arch == 'base':
            found[name] = dict(backbone.prompter)
    return found


def megabytes(path: Path, state: dict) -> float:
    """Size of ``state`` as a file, in 10^6 bytes."""
    write_checkpoint(path, state, {})
    size = path.stat().st_size / 1e6
    path.unlink()
    return size


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--classes', type=int, default=200, help='of the linear head')
    classes = parser.parse_args().classes
    import torch

    head = torch.nn.Linear(768, classes).state_dict()
    print('| method | prompter | parameters | prompts alone | with the head | everything |')
    print('|---|---|---|---|---|---|')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'size.pth'
        for name, prompter in methods().items():
            vit = PromptedViT('base', prompter=prompter, tune='prompts')
            vit.altered = ()
            state = {f'backbone.{k}': v for k, v in vit.state_dict().items()}
            record = record_of(vit, 'mae_pretrain_vit_base.pth')
            small = without_base(state, 'backbone', frozen_base(vit), record)
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
