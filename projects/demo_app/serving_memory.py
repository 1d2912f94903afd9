"""Memory and times of several prompt sets on one ViT-B/16, as the demo app holds them.

python -m lspt_mm serving_memory --models 8

Random weights, LSPT's prompts and a linear head for each model; prompt-only checkpoints written to
a temporary folder and read again. Memory is the process's resident one (Linux).
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from lspt_mm.config.paths import config_dir

CONFIG = config_dir() / 'classification' / 'lspt_imagefolder.py'


def write_sources(folder: Path, count: int, classes: int) -> list:
    """A random ViT-B and ``count`` prompt-only checkpoints of models on it."""
    import torch
    from timm import create_model

    from lspt_mm.checkpoints.prompt_only import strip_base_weights
    from lspt_mm.checkpoints.records import record_of
    from lspt_mm.config.load import read_config
    from lspt_mm.tasks import task_of
    from projects.demo_app.sources import Source

    torch.manual_seed(0)
    vit = folder / 'vit.pth'
    torch.save({'model': create_model('vit_base_patch16_224', num_classes=0).state_dict()}, vit)
    config = folder / 'config.py'
    config.write_text(
        f'_base_ = {str(CONFIG)!r}\nmodel = dict(backbone=dict(pretrained={str(vit)!r}), '
        f'head=dict(num_classes={classes}))\n'
    )
    cfg = read_config(str(config))
    sources = []
    for number in range(1, count + 1):
        torch.manual_seed(number)
        model = task_of(cfg).build(cfg)
        model.init_weights()
        record = record_of(model.backbone, str(vit))
        state = strip_base_weights(model.state_dict(), 'backbone', record)
        path = folder / f'set_{number}.pth'
        torch.save({'state_dict': state, 'meta': {}}, path)
        sources.append(Source(f'set {number}', str(config), str(path)))
    return sources


def resident() -> float:
    """Resident memory of this process, 10^6 bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmRSS'):
            return int(line.split()[1]) * 1024 / 1e6
    return float('nan')


def cpu_seconds(call) -> float:
    """CPU seconds of a call, which other processes on the machine do not change."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    """Write, load, predict, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--models', type=int, default=8, help='prompt sets (%(default)s)')
    parser.add_argument('--classes', type=int, default=200, help='of each head (%(default)s)')
    parser.add_argument('--repeats', type=int, default=5, help='of each prediction (%(default)s)')
    parser.add_argument('--device', default='cpu')
    args = parser.parse_args()
    import torch

    from projects.demo_app.models import ServedModels

    image = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        # In a process of its own, so that its memory is not counted here.
        context = torch.multiprocessing.get_context('spawn')
        with context.Pool(1) as pool:
            sources = pool.apply(write_sources, (Path(folder), args.models, args.classes))
        before = resident()
        start = time.perf_counter()
        models = ServedModels(sources, args.device)
        load = time.perf_counter() - start
        loaded = resident()
        for name in models.names:
            models.predict(name, image)
        used = resident()
    again, switched = [], []
    for i in range(args.repeats):
        name, other = (models.names[(i + k) % args.models] for k in (0, 1))
        models.predict(name, image)
        again.append(cpu_seconds(lambda n=name: models.predict(n, image)))
        switched.append(cpu_seconds(lambda n=other: models.predict(n, image)))
    held, apart = (size / 1e6 for size in models.bytes_held())
    print(f'{args.models} models on {models.device}, loaded in {load:.1f} s')
    print(f'weights held {held:.0f} MB; each on its own {apart:.0f} MB')
    print(f'resident: {before:.0f} MB before, {loaded:.0f} MB loaded, {used:.0f} MB in use')
    print(
        'CPU seconds of prediction and attention: the same model again '
        f'{statistics.median(again):.2f}, another one {statistics.median(switched):.2f} (medians '
        f'of {args.repeats})'
    )


if __name__ == '__main__':
    main()
