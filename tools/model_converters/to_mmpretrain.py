"""Write a pre-trained ViT of any known family under the names of mmpretrain's VisionTransformer.

No config of this project needs it: pretrained= reads the same files. It is for people who want
the file itself, say for mmpretrain's own configs.

python tools/model_converters/to_mmpretrain.py mae_pretrain_vit_base.pth mae_vit-b_mmpretrain.pth
"""

import argparse
from pathlib import Path

from lspt_mm.errors import InputError
from lspt_mm.utils.cli import input_errors_as_messages


def parse_args() -> argparse.Namespace:
    """Options of the conversion."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'source', help='path, URL (with #sha256=... if it is to be checked) or timm:NAME'
    )
    parser.add_argument('out', type=Path, help='file to write: .pth or .safetensors')
    parser.add_argument(
        '--prefix', default='', help="put before every name, e.g. 'backbone.' for a classifier"
    )
    parser.add_argument(
        '--grid', type=int, nargs=2, metavar=('ROWS', 'COLUMNS'),
        help="patches of the file's position embedding, where they are not a square",
    )  # fmt: skip
    parser.add_argument('--force', action='store_true', help='replace OUT if it is there')
    parser.add_argument('--debug', action='store_true', help='show tracebacks of input errors')
    return parser.parse_args()


def main() -> None:
    """Convert."""
    args = parse_args()
    with input_errors_as_messages(args.debug):
        from lspt_mm.checkpoints import load_vit_state_dict
        from lspt_mm.checkpoints.io import write_checkpoint
        from lspt_mm.checkpoints.key_mapping import group_ignored_keys
        from lspt_mm.checkpoints.load_backbone import GRID, check_sound
        from lspt_mm.checkpoints.publishing import public_source

        if args.out.exists() and not args.force:
            raise InputError(f'{args.out} is there already; --force replaces it')
        mapped = load_vit_state_dict(args.source, args.grid and tuple(args.grid))
        tensors = {args.prefix + k: v.contiguous() for k, v in sorted(mapped.tensors.items())}
        meta = {'source': public_source(args.source), 'family': mapped.family}
        if mapped.grid:
            meta[GRID] = list(mapped.grid)
        check_sound(args.source, tensors)
        write_checkpoint(args.out, tensors, meta)
    count = sum(t.numel() for t in tensors.values())
    print(f'{args.source} ({mapped.family}): {len(tensors)} tensors, {count / 1e6:.1f} M values')
    for kind, keys in group_ignored_keys(mapped.ignored).items():
        print(f'  left out, {kind}: {len(keys)} tensors')
    if 'register_tokens' in mapped.tensors:
        print(
            "  register_tokens: mmpretrain's VisionTransformer has none; PromptedViT takes them "
            f'with num_registers={mapped.tensors["register_tokens"].size(1)}'
        )
    if mapped.note:
        print(f'  {mapped.note}')
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
