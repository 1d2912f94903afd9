"""Tune a small pre-trained ViT on rendered scenes, with prompts and without, and draw both.

    python -m lspt_mm demo                          (make demo)
    python -m lspt_mm demo --method vpt-deep        (make demo METHOD=vpt-deep)
    python -m lspt_mm demo --backbone timm:vit_small_patch14_dinov2.lvd142m
    python -m lspt_mm demo --pretrain               pre-trains the ViT first, for hours

1. Render 620 synthetic scenes with masks of 16 classes.
2. Tune the frozen ViT on 320 of them: a linear head alone, then with prompts.
3. Test both once on 200 scenes, and draw some of them: OUT/demo.png.

It is `lspt_mm.train_segmentation` twice. Scenes and finished runs are kept for the next call.
"""

from __future__ import annotations

import argparse
import io
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Optional

import numpy as np

import lspt_mm
from lspt_mm.recipes.segmentation import METHODS
from lspt_mm.utils.atomic_io import read_json
from lspt_mm.utils.cli import input_errors_as_messages, tool_parser
from lspt_mm.utils.images import read_image
from lspt_mm.utils.installed import SEGMENTATION, require
from lspt_mm.utils.overlay import colour
from projects.demo.practice_data import OTHER, write_photos_and_masks
from projects.demo.pretrain import ARCH, WEIGHTS, pretrain
from projects.demo.scenes import PALETTE

if TYPE_CHECKING:
    from lspt_mm.apis.run import Run

SPLITS = {'train': 320, 'val': 100, 'test': 200}
SIZE = 192
BASELINE = 'frozen'
_PIPELINE = 'train_dataloader.dataset.pipeline'
#: Chosen on the validation scenes, seed 0. No changes of scale and colour: the fit that the head
#: starts from has not seen them, and the training is too short to make up for it.
OPTIONS = {
    'crop': SIZE, 'short_side': SIZE, 'mode': 'whole', 'batch_size': 8, 'iters': 300, 'lr': 1e-2,
    f'{_PIPELINE}.2.ratio_range': (1.0, 1.0), f'{_PIPELINE}.5.hue_delta': 1,
    f'{_PIPELINE}.5.brightness_delta': 0,
    **{f'{_PIPELINE}.5.{name}_range': (1.0, 1.0) for name in ('contrast', 'saturation')},
}
#: Test scenes in the picture.
SHOWN = 4


def parse_args() -> argparse.Namespace:
    """Options of the demo."""
    parser = tool_parser(__doc__)
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'), help='folder for all')
    methods = [name for name in METHODS if name != BASELINE]
    parser.add_argument('--method', choices=methods, default='lspt', metavar='NAME',
                        help=f'{", ".join(methods)} (lspt)')
    parser.add_argument('--backbone', default=str(WEIGHTS), help='timm:NAME or a file')
    parser.add_argument('--seed', type=int, default=0, help='of scenes, prompts and training')
    parser.add_argument(
        '--pretrain', action='store_true', help='pre-train the ViT on scenes first (hours)'
    )
    parser.add_argument(
        '--quick', action='store_true', help='a few iterations of everything, to see that it runs'
    )
    return parser.parse_args()


def tune(args: argparse.Namespace, scenes: Path, backbone: str, method: str) -> Run:
    """The run of a method, trained now or before, with its test in ``test.json``."""
    from lspt_mm.engine.hooks.class_scores_hook import TEST

    weights = Path(backbone.split(':')[-1])
    of_folder = '' if weights in (WEIGHTS, Path(weights.name)) else f'{weights.parent.name}_'
    name = f'{method}_{of_folder}{weights.stem}_seed{args.seed}'
    out = args.out / (f'quick_{name}' if args.quick else name)
    if (out / 'test' / TEST).is_file():
        print(f'{out}: finished before, it is used again', flush=True)
        return lspt_mm.load(out)
    options = {**OPTIONS, 'iters': 2} if args.quick else dict(OPTIONS)
    if Path(backbone).name == WEIGHTS.name:
        options['arch'] = ARCH
    with redirect_stdout(io.StringIO()):  # the table of the masks
        run = lspt_mm.train_segmentation(
            scenes / 'images', scenes / 'masks', out, classes=scenes / 'classes.txt',
            ignore=[OTHER], backbone=backbone, method=method, head='linear', seed=args.seed,
            options=options, resume=True,
        )
        run.test()
    return run


def draw(path: Path, scenes: Path, runs: Dict[str, Run]) -> None:
    """Write test scenes beside their masks, what each run predicts, and where its ViT looks."""
    from matplotlib.figure import Figure

    photos = sorted((scenes / 'images' / 'test').iterdir())[:SHOWN]
    titles = ['input', 'truth', *runs, 'attention']
    figure = Figure(figsize=(1.9 * len(titles), 1.9 * len(photos) + 0.3), layout='constrained')
    axes = figure.subplots(len(photos), len(titles), squeeze=False)
    for row, photo in zip(axes, photos, strict=True):
        image = read_image(photo)
        truth = read_image(scenes / 'masks' / 'test' / f'{photo.stem}.png')
        predicted = [colour(run.predict(photo).labels, PALETTE) for run in runs.values()]
        for axis, picture in zip(row, [image, truth, *predicted, image], strict=True):
            axis.imshow(picture)
            axis.axis('off')
        weights = attention(list(runs.values())[-1], image)
        if weights is not None:
            row[-1].imshow(
                weights, cmap='inferno', alpha=0.7, vmin=0, interpolation='bilinear',
                extent=(0, image.shape[1], image.shape[0], 0),
            )
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    figure.savefig(path, dpi=110)


def attention(run: Run, image: np.ndarray) -> Optional[np.ndarray]:
    """Where the prompts of the last block look, or its class token: weights (h, w)."""
    import torch
    from mmengine.dataset import pseudo_collate

    from lspt_mm.analysis.attention import attention_maps

    model = run.model
    data = model.data_preprocessor(pseudo_collate([run.pipeline(image)]), False)
    with torch.no_grad():
        last = attention_maps(model.backbone, data['inputs'])[-1]
    maps = last.cls if last.prompts is None else last.prompts.mean(1)
    return None if maps is None else maps[0].mean(0).cpu().numpy()


def table(results: Dict[str, dict]) -> List[str]:
    """A line for each class, and the mean."""
    lines = [f'{"IoU on the test scenes":24}' + ''.join(f'{name:>12}' for name in results)]
    for name in next(iter(results.values()))['classes']:
        scores = [result['classes'][name] for result in results.values()]
        cells = ['-' if score is None else f'{score:.1f}' for score in scores]
        lines.append(f'{name:24}' + ''.join(f'{cell:>12}' for cell in cells))
    means = ''.join(f'{result["value"]:12.2f}' for result in results.values())
    return [*lines, f'{"mean":24}{means}']


def main() -> None:
    """Run all steps."""
    args = parse_args()
    start = time.time()

    def say(text: str) -> None:
        print(f'[{time.time() - start:4.0f} s] {text}', flush=True)

    with input_errors_as_messages(args.debug):
        require(*SEGMENTATION)
        from lspt_mm.engine.hooks.class_scores_hook import TEST

        scenes = args.out / ('quick_scenes' if args.quick else f'scenes_seed{args.seed}')
        splits = {name: 8 if args.quick else count for name, count in SPLITS.items()}
        if not (scenes / 'classes.txt').is_file():  # which is written last
            say(f'rendering {sum(splits.values())} synthetic scenes')
            write_photos_and_masks(scenes, splits, SIZE, args.seed)
        backbone = args.backbone
        if args.pretrain:
            say('pre-training a ViT on rendered scenes')
            backbone = str(pretrain(args.out / 'pretrain', args.quick))
        runs = {}
        for method in (BASELINE, args.method):
            say(f'tuning a linear head on the frozen ViT, method={method}')
            runs[method] = tune(args, scenes, backbone, method)
        say('drawing')
        draw(args.out / 'demo.png', scenes, runs)
    results = {name: read_json(run.folder / 'test' / TEST) for name, run in runs.items()}
    print('\n'.join(table(results)))
    say(f'{args.out / "demo.png"}: open it. Next:')
    tuned = runs[args.method].folder
    print(f'  python -m lspt_mm predict {tuned} IMAGES')
    print(f'  python -m lspt_mm report {tuned} {runs[BASELINE].folder}')


if __name__ == '__main__':
    main()
