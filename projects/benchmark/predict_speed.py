"""Images per second of `predict`, beside the forward pass alone, and what half precision changes.

python -m lspt_mm predict_speed RUN DIR --batch-size 1 8 --workers 0 2 --dtype float32 bfloat16

RUN is a run's folder. The images of DIR are resized to --size and repeated up to --count. `one by
one` loads, predicts and writes one image after the other. `forward` repeats the model's step on
images in memory, normalisation and class maps included. Rows take turns, and the median round
counts. CPU is user and system time with that of the workers. `differ`: share of the pixels, or
images, whose class is not that of float32.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Callable, List, Sequence

from lspt_mm.utils.cli import input_errors_as_messages, tool_parser

if TYPE_CHECKING:
    from torch import nn


def write_images(sources: Sequence[Path], size: Sequence[int], count: int, to: Path) -> List[Path]:
    """Write ``count`` JPEGs of ``size`` (width, height) from the sources, over and over."""
    from PIL import Image

    from lspt_mm.utils.images import read_image

    paths = [to / f'{i:05}.jpg' for i in range(count)]
    for path, source in zip(paths, itertools.cycle(sources)):  # noqa: B905
        Image.fromarray(read_image(source)).resize(tuple(size)).save(path, quality=90)
    return paths


def one_by_one(model: nn.Module, images: Sequence[Path], out: Path) -> None:
    """Load, predict and write one image after the other."""
    from lspt_mm.apis.predict import image_pipeline, predict_image
    from lspt_mm.tasks import task_of

    pipeline, task, meta = image_pipeline(model.cfg), task_of(model.cfg), model.dataset_meta
    out.mkdir(parents=True, exist_ok=True)
    for path in images:
        found = predict_image(model, pipeline(path))
        task.write(out, path.stem, path, found, meta['classes'], meta['palette'], None)


def forward(
    model: nn.Module, images: Sequence[Path], out: Path, batch_size: int, dtype: str
) -> None:
    """Run the model as often as for all images, on the first of them."""
    import torch
    from mmengine.dataset import pseudo_collate

    from lspt_mm.apis.predict import autocast_to, image_pipeline
    from lspt_mm.tasks import task_of

    pipeline, task = image_pipeline(model.cfg), task_of(model.cfg)
    packed = [pipeline(path) for path in images[:batch_size]]
    with torch.no_grad(), autocast_to(dtype, next(model.parameters()).device):
        model.backbone.fuse()
        for _ in range(len(images) // batch_size):
            samples = model.test_step(pseudo_collate(packed))
    task.prediction(samples[0])  # waits for a GPU


def share_that_differs(model: nn.Module, images: Sequence[Path], dtype: str) -> float:
    """Share of the pixels, or images, whose class in ``dtype`` is not that of float32."""
    from lspt_mm.apis.predict import predict_samples
    from lspt_mm.tasks import task_of

    task, shares = task_of(model.cfg), []
    runs = [predict_samples(model, [path], 1, 0, kind) for path in images
            for kind in ('float32', dtype)]
    for pair in zip(runs[::2], runs[1::2], strict=True):
        one, other = (task.prediction(next(iter(run))).labels for run in pair)
        shares.append((one != other).mean() if one.shape == other.shape else 1.0)
    return statistics.fmean(shares)


def timed(run: Callable[[], object]) -> List[float]:
    """Wall-clock and CPU seconds of a call, with the processes that it starts and ends."""
    before, begun = os.times(), time.perf_counter()
    run()
    after, seconds = os.times(), time.perf_counter() - begun
    return [seconds, sum(after[:4]) - sum(before[:4])]


def main() -> None:
    """Measure all rows in turn and print them."""
    parser = tool_parser(__doc__)
    parser.add_argument('run', type=Path)
    parser.add_argument('images', type=Path)
    parser.add_argument('--size', type=int, nargs=2, default=(640, 480), metavar=('W', 'H'))
    parser.add_argument('--count', type=int, default=500)
    parser.add_argument('--batch-size', type=int, nargs='+', default=[1, 8])
    parser.add_argument('--workers', type=int, nargs='+', default=[0, 2])
    parser.add_argument('--dtype', nargs='+', default=['float32'])
    parser.add_argument('--device', help='by default a GPU if there is one')
    parser.add_argument('--rounds', type=int, default=3)
    args = parser.parse_args()
    with input_errors_as_messages(args.debug), tempfile.TemporaryDirectory() as folder:
        from lspt_mm.apis import load, predict_images
        from lspt_mm.apis.predict import autocast_to, images_of

        model, out = load(args.run, args.device).model, Path(folder) / 'out'
        for dtype in args.dtype:
            autocast_to(dtype, next(model.parameters()).device)  # or an error, at once
        out.mkdir()
        images = write_images(images_of([args.images]), args.size, args.count, Path(folder))
        rows = {'one by one': partial(one_by_one, model, images, out / 'alone')}
        for dtype, batch in itertools.product(args.dtype, args.batch_size):
            rows[f'forward, batch {batch}, {dtype}'] = partial(
                forward, model, images, out, batch, dtype
            )
            for workers in args.workers:
                rows[f'predict, batch {batch}, {workers} workers, {dtype}'] = partial(
                    predict_images, model, images, out, None, False, batch, workers, dtype
                )
        times = {name: [] for name in rows}
        for _ in range(args.rounds):
            for name, run in rows.items():
                times[name].append(timed(run))
        print(f'{args.count} images of {args.size[0]} x {args.size[1]}, {args.rounds} rounds\n')
        print('| | images/s | CPU, s/image |\n|---|---|---|')
        for name, found in times.items():
            wall, cpu = (statistics.median(column) / args.count for column in zip(*found))  # noqa: B905
            print(f'| {name} | {1 / wall:.2f} | {cpu:.3f} |')
        for dtype in args.dtype:
            if dtype != 'float32':
                print(f'{dtype}: {100 * share_that_differs(model, images, dtype):.3f} % differ')


if __name__ == '__main__':
    main()
