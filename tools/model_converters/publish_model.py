"""Turn a run's checkpoint into a file to share: no training state, a hash in its name, a card.

python tools/model_converters/publish_model.py RUN_FOLDER OUT
python tools/model_converters/publish_model.py CONFIG CHECKPOINT OUT --prompts-only \\
    --dataset 'CamVid, 11 classes' --metric 'mIoU 34.2' --base-licence CC-BY-NC-4.0

writes OUT-<hash>.pth and OUT-<hash>.md. With --prompts-only (the default) the frozen ViT is left
out: loading the file requires the base that it names. With --merged everything is in the file.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lspt_mm.config.options import take_checkpoint
from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser

if TYPE_CHECKING:
    import torch

CONTENT = {
    'prompts': 'Without the frozen ViT, which is loaded from the base named below.',
    'merged': 'The ViT included.',
}


def parse_args() -> argparse.Namespace:
    """Options of publishing."""
    parser = tool_parser(__doc__)
    parser.add_argument(
        'run', help="the run's folder, or its config followed by a checkpoint, full or prompt-only"
    )
    parser.add_argument('paths', nargs='+', metavar='out',
                        help='folder and name of the files, without suffix')
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        '--prompts-only', dest='kind', action='store_const', const='prompts', default='prompts',
        help='leave out the frozen ViT (default)',
    )
    kind.add_argument(
        '--merged', dest='kind', action='store_const', const='merged', help='keep the ViT'
    )
    parser.add_argument(
        '--without-head', action='store_true', help='leave out all but the backbone: the prompts'
    )
    parser.add_argument('--format', choices=('pth', 'safetensors'), default='pth')
    parser.add_argument('--pretrained', help="file of the ViT's weights, instead of the config's")
    parser.add_argument(
        '--base-source', help='where the base can be downloaded, to be recorded in the file, such '
        'as a URL (with #sha256=... after it if known), instead of the source that the run used',
    )
    parser.add_argument('--dataset', help='for the card: what it was trained on')
    parser.add_argument('--metric', help='for the card: what was measured, and on what')
    parser.add_argument('--base-licence', help="for the card: the licence of the base's weights")
    parser.add_argument('--licence', help='for the card: the licence of what is published')
    args = parser.parse_args()
    args.checkpoint = take_checkpoint(parser, args.run, args.paths, 'OUT', most=1)
    args.out = Path(args.paths[0])
    return args


def load_model(args: argparse.Namespace) -> torch.nn.Module:
    """The model with the checkpoint in it; its ViT has the source of its weights."""
    from lspt_mm.apis import init_model
    from lspt_mm.checkpoints.backbone import UNKNOWN, prompted_backbones
    from lspt_mm.checkpoints.records import records_in_meta

    model = init_model(args.run, args.checkpoint, args.pretrained, device='cpu')
    known = records_in_meta(model.checkpoint_meta)
    args.checkpoint = args.checkpoint or args.run  # for messages
    for name, vit in prompted_backbones(model).items():
        if vit.weights.source != UNKNOWN:
            continue
        if name not in known:
            raise InputError(
                f'{args.checkpoint}: does not say which ViT it was trained on; it was not written '
                "by this library's PromptCheckpointHook"
            )
        record = known[name]
        modified = tuple(set(vit.describe().tensors) - set(record.left_out))
        vit.weights = vit.weights._replace(source=record.source, modified=modified)
    return model


def publish(args: argparse.Namespace) -> None:
    """Write the file and its card."""
    from lspt_mm.checkpoints.backbone import UNKNOWN, prompted_backbones
    from lspt_mm.checkpoints.prompt_only import strip_base_weights
    from lspt_mm.checkpoints.publishing import (
        model_card,
        plain_dataset_meta,
        public_source,
        size_table,
        write_published,
    )
    from lspt_mm.checkpoints.records import META, record_of, records_json
    from lspt_mm.tasks import task_of

    if args.out.name in ('', '..') or args.out.is_dir():
        raise InputError(f'{args.out}: expected a folder and the beginning of a file name')
    if args.out.suffix in ('.pth', '.safetensors'):
        args.out = args.out.with_suffix('')
    model = load_model(args)
    vits = prompted_backbones(model)
    task_of(model.cfg).fold(model)
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    records = {}
    for name, vit in vits.items():
        if args.kind == 'prompts' and vit.tune == 'full':
            raise InputError("tune='full': nothing of the ViT is frozen; publish it with --merged")
        source = args.base_source or vit.weights.source
        if source == UNKNOWN:
            raise InputError(
                f'{args.checkpoint}: does not say where its ViT came from; name it: --base-source'
            )
        records[name] = record_of(vit, public_source(source))
        if args.kind == 'prompts':
            state = strip_base_weights(state, name, records[name])
    if args.without_head:
        state = {k: v for k, v in state.items() if k.startswith(tuple(f'{n}.' for n in vits))}
    meta = model.checkpoint_meta.get('dataset_meta')
    path = write_published(
        args.out, f'.{args.format}', state,
        {'dataset_meta': plain_dataset_meta(meta), META: records_json(records)},
    )
    facts = {
        'Data set': args.dataset or 'not stated',
        'Metric': args.metric or 'not stated',
        'Licence of the base': args.base_licence or 'not stated: ask where the base came from',
        'Licence': args.licence or 'not stated',
    }
    sizes = size_table(state)
    card = path.with_suffix('.md')
    content = f'{CONTENT[args.kind]} Its parts, by size, are below.'
    text = model_card(path, records, sizes, public_config(model.cfg), content, facts)
    card.write_text(text, encoding='utf-8')
    print(f'{sizes}\nwritten: {path} ({path.stat().st_size / 1e6:.3f} MB) and {card.name}')


def public_config(cfg) -> str:
    """The config's text, its paths to weights without the folders of this machine."""
    from mmengine.config import Config

    from lspt_mm.checkpoints.publishing import without_folders

    values = {k: v for k, v in cfg.to_dict().items() if k != 'work_dir'}
    return Config(without_folders(values)).pretty_text


def main() -> None:
    """Publish."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        publish(args)


if __name__ == '__main__':
    main()
