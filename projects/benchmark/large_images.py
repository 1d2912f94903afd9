"""Time and memory of predicting one large image in sliding windows, beside mmseg's own.

python -m lspt_mm large_images --size 1000 2000 4000 --out work_dirs/large_images.csv

A ViT-S/16 with random weights, a head with 150 classes, windows of 512 pixels every 341. Each row
runs in a process of its own, whose peak memory is read at the end. `windows` runs the same windows
one by one and discards their logits.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Dict

from rich.console import Console
from rich.progress import track

if TYPE_CHECKING:
    import torch

CLASSES, CROP, STRIDE = 150, 512, 341
KINDS = ('windows', 'lspt_mm', 'mmseg')
HEADS = {
    'linear': dict(type='lspt_mm.LinearSegHead', in_channels=[384] * 4),
    'light': dict(
        type='lspt_mm.SegformerHead', in_channels=[384] * 4, in_index=[0, 1, 2, 3], channels=256,
        dropout_ratio=0.0,
    ),
}


def build(kind: str, head: str) -> torch.nn.Module:
    """The segmentor with random weights, in eval mode."""
    import torch
    from mmengine.config import ConfigDict
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(dict(
        type='EncoderDecoder' if kind == 'mmseg' else 'lspt_mm.EncoderDecoder',
        backbone=dict(
            type='lspt_mm.PromptedViT', arch='deit-small', img_size=CROP, patch_size=16,
            out_type='featmap', out_indices=(3, 5, 7, 11),
            prompter=dict(type='VPT', num_tokens=10, deep=True),
        ),
        decode_head=dict(HEADS[head], num_classes=CLASSES, align_corners=False),
        test_cfg=ConfigDict(mode='slide', crop_size=(CROP, CROP), stride=(STRIDE, STRIDE)),
    ))
    model.eval().backbone.fuse()
    return model


def measure(kind: str, size: int, head: str) -> Dict[str, float]:
    """Seconds, and GB of memory above that of the model and the image."""
    import torch

    from lspt_mm.models.segmentors import starts

    torch.set_grad_enabled(False)
    model = build(kind, head)
    image = torch.randn(1, 3, size, size)
    model.encode_decode(image[:, :, :CROP, :CROP], [dict(img_shape=torch.Size((CROP, CROP)))])
    before = memory()
    begun = time.perf_counter()
    if kind == 'windows':
        places = starts(size, CROP, STRIDE)
        for top in places:
            for left in places:
                window = image[:, :, top : top + CROP, left : left + CROP]
                model.decode_head(model.extract_feat(window))
    else:
        model.predict(image)
    return dict(seconds=time.perf_counter() - begun, peak=max(0.0, memory() - before))


def memory() -> float:
    """Peak memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def in_process(kind: str, size: int, head: str) -> Dict[str, float]:
    """:func:`measure` in a process of its own; NaN if it failed, such as for memory."""
    command = [sys.executable, __file__, '--one', kind, str(size), head]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        why = done.stderr.splitlines()[-1:]
        print(f'{kind}, {size}, {head}: exit code {done.returncode}', *why)
        return dict(seconds=float('nan'), peak=float('nan'))
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure every kind, size and head."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--size', type=int, nargs='+', default=[1000, 2000, 4000])
    parser.add_argument('--head', nargs='+', choices=HEADS, default=['linear'])
    parser.add_argument('--kind', nargs='+', choices=KINDS, default=list(KINDS))
    parser.add_argument('--out', type=Path, default=Path('work_dirs/large_images.csv'))
    parser.add_argument('--one', nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        kind, size, head = args.one
        print(json.dumps(measure(kind, int(size), head)))
        return
    cases = [(kind, size, head) for head in args.head for size in args.size for kind in args.kind]
    rows = []
    for case in track(cases, 'measuring', console=Console(stderr=True)):
        found = in_process(*case)
        rows.append(dict(zip(('kind', 'size', 'head'), case, strict=True), **found))
        print('{kind:8} {size:5} {head:6} {seconds:8.1f} s {peak:6.2f} GB'.format(**rows[-1]))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with open(args.out, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == '__main__':
    main()
