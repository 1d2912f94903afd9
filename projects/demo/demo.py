"""From nothing to two mIoUs: render scenes, pre-train a small ViT on them, tune it with prompts.

Every step is one of the library's own commands, shown as it is run:

1. render scenes (16 classes, ADE20K's layout): unlabelled, training, validation and test;
2. pre-train a ViT of 8 blocks on the unlabelled ones with MMPretrain's MAE;
3. freeze it, and train an UPerNet head on it, with prompts and without;
4. test both on scenes that nothing was tuned or selected on;
5. compare them on one page: curves, predictions, attention in every block, what the prompts do;
6. publish the prompts and the head without the ViT, and test the published file.

    python -m lspt_mm demo                     (make demo)
    python -m lspt_mm demo --seed 1 --out work_dirs/demo_1

Scenes, ViT and the run without prompts are kept and used again by the next run with the same --out
and --seed.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict

from mmengine.config import Config

import lspt_mm  # noqa: F401  (repairs the stack before anything imports torchvision)
from lspt_mm.config.paths import config_dir, tools_dir
from projects.demo.scene_files import write_ade20k_layout

CONFIGS = config_dir() / 'demo'
SCENES = {'unlabelled': 2400, 'training': 320, 'validation': 100, 'test': 200}
SUFFIX = '_upernet_scenes.py'
BASELINE = 'frozen'


def parse_args() -> argparse.Namespace:
    """Options of the demo."""
    methods = sorted(p.name[: -len(SUFFIX)] for p in CONFIGS.glob('*' + SUFFIX))
    methods.remove(BASELINE)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'), help='folder for all')
    parser.add_argument('--method', choices=methods, default='lspt', help='prompt method')
    parser.add_argument('--seed', type=int, default=0, help='of scenes, weights and training')
    parser.add_argument(
        '--pictures', type=int, default=6, help='how many test scenes the page shows'
    )
    parser.add_argument(
        '--quick', action='store_true', help='a few iterations of everything, to see that it runs'
    )
    return parser.parse_args()


def heading(text: str, start: float) -> None:
    """Say what comes next and how long it has been."""
    print(f'\n=== [{time.time() - start:4.0f} s] {text}', flush=True)


def run(script: str, *arguments) -> None:
    """Run one of the tools, its output shown."""
    command = [sys.executable, str(tools_dir() / script), *map(str, arguments)]
    print('$ python tools/' + ' '.join([script, *map(str, arguments)]), flush=True)
    code = subprocess.run(command).returncode
    if code:
        sys.exit(code)


def render(out: Path, seed: int, quick: bool) -> Path:
    """Render all splits below ``out`` unless they are there; return their folder."""
    splits = {name: 8 if quick else count for name, count in SCENES.items()}
    write_ade20k_layout(out / 'scenes', splits, seed=seed, size=128)
    return out / 'scenes'


def train(config: Path, work_dir: Path, quick: bool, *arguments) -> None:
    """Run train.py, for two iterations if ``quick``."""
    keys = ('train_cfg.max_iters', 'train_cfg.val_interval', 'default_hooks.checkpoint.interval')
    options = ['--cfg-options', *(f'{key}=2' for key in keys)] if quick else []
    run('train.py', config, '--work-dir', work_dir, *arguments, *options)


def pretrain(out: Path, scenes: Path, seed: int, quick: bool) -> Path:
    """MAE on the unlabelled scenes; returns the checkpoint, made before or now."""
    config = CONFIGS / 'mae_scenes.py'
    kept(
        out / 'mae', {'seed': seed, 'quick': quick, 'config': _text(config)},
        lambda: train(config, out / 'mae', quick, '--data-root', scenes, '--seed', seed),
    )  # fmt: skip
    return checkpoint(out / 'mae')


def kept(work_dir: Path, stamp: dict, make: Callable[[], Any]) -> Any:
    """What ``make`` gives, or gave when it was last run here for the same ``stamp``."""
    done = work_dir / 'done.json'
    if done.is_file():
        found = json.loads(done.read_text())
        there = (work_dir / 'last_checkpoint').is_file() and checkpoint(work_dir).is_file()
        if there and found.get('stamp') == stamp:
            print(f'{work_dir} holds this run of this seed already; it is used again')
            return found['result']
        done.unlink()  # before what it says is no longer so
    result = make()
    done.write_text(json.dumps({'stamp': stamp, 'result': result}))
    return result


def _text(config: Path) -> str:
    """The config with all that it inherits."""
    return Config.fromfile(config).pretty_text


def test(config: Path, weights: Path, work_dir: Path, scenes: Path, *arguments) -> dict:
    """Run test.py; returns its metrics."""
    before = set(work_dir.glob('*/*.json'))
    run('test.py', config, weights, '--work-dir', work_dir, '--data-root', scenes, *arguments)
    (metrics,) = set(work_dir.glob('*/*.json')) - before
    return json.loads(metrics.read_text())


def publish(name: str, out: Path, scenes: Path, vit: Path, miou: float) -> Path:
    """A prompt-only file of run ``name``, which is tested in a process of its own."""
    config, folder = CONFIGS / (name + SUFFIX), out / 'published'
    for old in folder.glob(f'{name}-*'):
        old.unlink()
    run(
        'model_converters/publish_model.py', config, checkpoint(out / name), folder / name,
        '--pretrained', vit, '--dataset', 'rendered scenes, 16 classes',
        '--metric', f'mIoU {miou:.2f} on the test scenes',
        '--base-licence', 'your own: pre-trained here',
    )  # fmt: skip
    (path,) = folder.glob(f'{name}-*.pth')
    again = test(config, path, out / name / 'test_published', scenes, '--pretrained', vit)['mIoU']
    if again != miou:
        sys.exit(f'error: {path} has mIoU {again}, the run it was published from {miou}')
    return path


def baseline(out: Path, scenes: Path, vit: Path, seed: int, quick: bool) -> Dict[str, float]:
    """:func:`tune` without prompts, which is the same beside every method; made before or now."""
    made_of = json.loads((out / 'mae' / 'done.json').read_text())['stamp']
    stamp = {'vit': made_of, 'config': _text(CONFIGS / (BASELINE + SUFFIX))}
    return kept(out / BASELINE, stamp, lambda: tune(BASELINE, out, scenes, vit, seed, quick))


def tune(name: str, out: Path, scenes: Path, vit: Path, seed: int, quick: bool) -> Dict[str, float]:
    """Train ``name`` on the training scenes and test it; returns the test's metrics."""
    config, work_dir = CONFIGS / (name + SUFFIX), out / name
    train(config, work_dir, quick, '--data-root', scenes, '--seed', seed, '--pretrained', vit)
    return test(config, checkpoint(work_dir), work_dir / 'test', scenes)


def checkpoint(work_dir: Path) -> Path:
    """The checkpoint a run wrote last."""
    return Path((work_dir / 'last_checkpoint').read_text().strip())


def report(out: Path, method: str, scenes: Path, seed: int, pictures: int) -> Path:
    """A page that compares ``method``, the run without prompts, and what was run here before."""
    known = sorted(path.name[: -len(SUFFIX)] for path in CONFIGS.glob('*' + SUFFIX))
    others = [name for name in known if name not in (method, BASELINE)]
    names = [method, *(name for name in others if of_seed(out / name, seed)), BASELINE]
    runs = [f'none={out / name}' if name == BASELINE else out / name for name in names]
    page = out / 'report.html'
    run('report.py', *runs, '--split', 'test', '--pictures', pictures, '--data-root', scenes,
        '--out', page)  # fmt: skip
    return page


def of_seed(work_dir: Path, seed: int) -> bool:
    """Whether a finished run lies there that is of the same seed, and so of the same ViT."""
    config = work_dir / (work_dir.name + SUFFIX)
    if not ((work_dir / 'last_checkpoint').is_file() and config.is_file()):
        return False
    return Config.fromfile(config).randomness.get('seed') == seed


def main() -> None:
    """Run all steps and print both results."""
    args = parse_args()
    start = time.time()
    heading('Rendering scenes', start)
    scenes = render(args.out, args.seed, args.quick)
    heading('Pre-training the ViT by MAE on unlabelled scenes', start)
    vit = pretrain(args.out, scenes, args.seed, args.quick)
    made = (args.out, scenes, vit, args.seed, args.quick)
    heading(f'Training UPerNet on the frozen ViT with {args.method} prompts', start)
    results = {args.method: tune(args.method, *made)}
    heading('Training UPerNet on the frozen ViT without prompts', start)
    results[BASELINE] = baseline(*made)
    heading('Comparing them on a page', start)
    page = report(args.out, args.method, scenes, args.seed, args.pictures)
    heading('Publishing the prompts and the head, and testing the published file', start)
    miou = results[args.method]['mIoU']
    published = publish(args.method, args.out, scenes, vit, miou)
    size = published.stat().st_size / 1e6
    print(f'the same mIoU from {published}: {size:.2f} MB, without the ViT')
    (args.out / f'result_{args.method}.json').write_text(json.dumps(results, indent=2) + '\n')
    count = 8 if args.quick else SCENES['test']
    heading(f'mIoU on {count} test scenes, neither tuned on nor selected on', start)
    for name, metrics in results.items():
        title = 'the same head, no prompts' if name == BASELINE else f'UPerNet with {name} prompts'
        print(f'{title:<30} {metrics["mIoU"]:6.2f}')
    print(f'\nOpen {page} in a browser to see what the prompts do.')


if __name__ == '__main__':
    main()
