"""Miniature data sets, checkpoints and configs, and a way to run a tool on them in a second.

Importing the stack takes several seconds, so that tools are run in forks of one server process
which has imported it: a fresh process for each run, with its own exit code and output.
"""

import fcntl
import gc
import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Callable, NamedTuple

import numpy as np
import torch
from PIL import Image

import lspt_mm  # noqa: F401

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'
TOOLS = ROOT / 'tools'

#: A ViT with 16 channels and 4 blocks on patches of 8.
ARCH = {'embed_dims': 16, 'num_layers': 4, 'num_heads': 2, 'feedforward_channels': 32}


# ---- data -------------------------------------------------------------------------------------


def save_image(path, height=40, width=48, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def save_label(path, label):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(label, np.uint8)).save(path)


def write_ade20k(root, training=4, validation=3, height=40, width=48):
    """ADE20K's layout; each label holds 0, 150 and blocks of random values between."""
    for split, count in (('training', training), ('validation', validation)):
        for i in range(count):
            rng = np.random.default_rng([len(split), i])
            save_image(root / f'images/{split}/{split}_{i}.jpg', height, width, seed=i)
            blocks = rng.integers(0, 151, (-(-height // 8), -(-width // 8)))
            blocks.flat[:2] = 0, 150
            label = blocks.repeat(8, 0).repeat(8, 1)[:height, :width]
            save_label(root / f'annotations/{split}/{split}_{i}.png', label)
    return root


def write_image_folder(root, classes=('ant', 'bee', 'cat'), train=4, val=2):
    for split, count in (('train', train), ('val', val)):
        for c, name in enumerate(classes):
            for i in range(count):
                save_image(root / split / name / f'{name}_{i}.jpg', seed=10 * c + i)
    return root


def write_camvid(root, drives, split='training'):
    """``drives``: name to number of frames. Labels 0..11, 11 being void."""
    for d, (drive, count) in enumerate(drives.items()):
        for i in range(count):
            name = f'{drive}_{i:05d}'
            save_image(root / f'images/{split}/{name}.jpg', 12, 16, seed=i)
            label = np.random.default_rng([d, i]).integers(0, 12, (12, 16))
            save_label(root / f'annotations/{split}/{name}.png', label)
    return root


# ---- checkpoints ------------------------------------------------------------------------------


def tiny_vit(img_size=32, patch=8, seed=0, **kwargs):
    """timm's ViT of the size of ``ARCH`` with random values everywhere."""
    from timm.models.vision_transformer import VisionTransformer

    vit = VisionTransformer(
        img_size=img_size, patch_size=patch, embed_dim=ARCH['embed_dims'],
        depth=kwargs.pop('depth', ARCH['num_layers']), num_heads=ARCH['num_heads'], mlp_ratio=2,
        **{'num_classes': 0, **kwargs},
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in sorted(vit.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.2 * noise + (parameter.dim() == 1) * 0.5)
    return vit.eval()


def write_vit(path, **kwargs):
    """A file like MAE's official ones."""
    torch.save({'model': tiny_vit(**kwargs).state_dict()}, path)
    return path


# ---- configs ----------------------------------------------------------------------------------

#: A method that starts from training data, to be merged into a miniature's prompter.
FROM_DATA = {
    '_delete_': True,
    'type': 'BilinearPrompt',
    'num_tokens': 3,
    'rank': 2,
    'deep': True,
    'trained_right': 1,
    'start': 'whiten',
}

SEGMENTATION = """
_base_ = {base!r}
crop = (32, 32)
model = dict(
    data_preprocessor=dict(size=crop),
    backbone=dict(
        arch=dict(_delete_=True, **{arch!r}), img_size=crop, patch_size=8, out_indices=(0, 1, 2, 3),
        pretrained={vit!r}, prompter=dict(num_tokens=3, dropout=0.)),
    neck=dict(embed_dim=16),
    # No dropout and no random augmentation: what a run learns can be followed by hand. Runs with
    # everything random are in exact_runs.py.
    decode_head=dict(in_channels=[16] * 4, channels=8, dropout_ratio=0.),
    auxiliary_head=dict(in_channels=16, channels=8, dropout_ratio=0.),
    test_cfg=dict(crop_size=crop, stride=(21, 21)))
labels = dict(type='lspt_mm.LoadSegLabels', num_classes=150)
load = [_base_.train_pipeline[0], labels]
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(data_root={data!r}, pipeline=load + [
        dict(type='Resize', scale=crop, keep_ratio=False), dict(type='PackSegInputs')]))
val_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(data_root={data!r}, pipeline=load + [dict(type='PackSegInputs')]))
test_dataloader = val_dataloader
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale_factor=r, keep_ratio=True) for r in (1.0, 1.5)],
        [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)],
        [labels], [dict(type='PackSegInputs')]])]
param_scheduler = [dict(type='PolyLR', eta_min=0.0, power=1.0, begin=0, end=8, by_epoch=False)]
train_cfg = dict(max_iters=4, val_interval=4)
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=2, max_keep_ckpts=-1))
"""

CLASSIFICATION = """
_base_ = {base!r}
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **{arch!r}), img_size=32, patch_size=8,
        pretrained={vit!r}, prompter=dict(num_tokens=3)),
    head=dict(in_channels=16, num_classes=3))
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='CenterCrop', crop_size=32), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(data_root={data!r}, pipeline=pipeline))
val_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(data_root={data!r}, pipeline=pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=2))
"""


def write_config(path, template, base, data, vit):
    text = template.format(base=str(CONFIGS / base), arch=ARCH, data=str(data), vit=str(vit))
    path.write_text(text)
    return path


class Miniature(NamedTuple):
    config: Path
    data: Path
    vit: Path


def write_segmentation(folder):
    """Config, data and ViT of a run of seconds."""
    data = write_ade20k(folder / 'ADEChallengeData2016')
    vit = write_vit(folder / 'tiny_vit.pth')
    base = 'lspt_upernet_ade20k.py'
    config = write_config(folder / 'mini_seg.py', SEGMENTATION, base, data, vit)
    return Miniature(config, data, vit)


#: For functions of mmseg that take the main config's ``test_pipeline``. It enlarges to 512 pixels,
#: hundreds of the miniature's windows, and mmseg pads each to the whole image.
LARGE_WINDOWS = {'model.test_cfg.crop_size': (256, 256), 'model.test_cfg.stride': (256, 256)}


def write_classification(folder):
    data = write_image_folder(folder / 'images')
    vit = write_vit(folder / 'tiny_vit.pth')
    base = 'classification/lspt_imagefolder.py'
    config = write_config(folder / 'mini_cls.py', CLASSIFICATION, base, data, vit)
    return Miniature(config, data, vit)


def tool_path(name):
    """A tool's file: below tools/, or a project's by its path from the root."""
    return ROOT / name if str(name).startswith('projects/') else TOOLS / name


# ---- running tools ----------------------------------------------------------------------------


class Run(NamedTuple):
    code: int
    out: str
    err: str


_forks = multiprocessing.get_context('forkserver')
_forks.set_forkserver_preload([
    'lspt_mm.engine.runner', 'mmseg.apis', 'mmpretrain.apis', 'lspt_mm.datasets', 'mmseg.datasets',
    'mmpretrain.datasets', 'mmseg.engine', 'mmseg.evaluation', 'matplotlib.pyplot', 'setuptools',
    'yapf.yapflib.yapf_api',
])


def no_needless_work() -> None:
    """Leave out what costs seconds in each run of MMEngine and changes no result.

    A runner formats its config by yapf for each log and checkpoint, half a second each time, a
    data set collects garbage, which visits all objects of the imported stack, and MMEngine's
    endless loader sleeps two seconds before each epoch for the sake of its worker processes.
    """
    from mmengine.runner import loops
    from yapf.yapflib import yapf_api

    yapf_api.FormatCode = lambda text, **_: (text, False)
    loops.time = SimpleNamespace(sleep=lambda _: None)
    gc.freeze()


def run_tool(name: str, *arguments, cwd=None) -> Run:
    """Run ``tools/NAME`` in a process of its own, a fork of the server."""
    folder = Path(cwd or '.').resolve()
    reader, writer = _forks.Pipe(duplex=False)
    process = _forks.Process(target=_child, args=(writer, folder, name, [*map(str, arguments)]))
    process.start()
    writer.close()
    streams = {'out': '', 'err': ''}
    try:
        while True:
            name, text = reader.recv()
            streams[name] += text
    except EOFError:
        pass
    process.join()
    return Run(process.exitcode, streams['out'], streams['err'])


def ok(run: Run) -> Run:
    """The run itself, which must have ended well."""
    assert run.code == 0, run.out[-2000:] + run.err[-3000:]
    return run


def run_ok(name: str, *arguments, cwd=None) -> Run:
    """As :func:`run_tool`, for runs that must end well."""
    return ok(run_tool(name, *arguments, cwd=cwd))


def refused(run: Run, *words) -> str:
    """The message of a run that must have ended with an input error that has these words."""
    assert run.code == 2, f'exit code {run.code}\n{run.out[-2000:]}{run.err[-3000:]}'
    assert 'Traceback' not in run.out + run.err, run.err[-3000:]
    assert (run.out + run.err).count('error: ') == 1, run.err[-3000:]
    message = run.err.split('error: ')[1]
    assert all(str(word) in message for word in words), message
    return message


def _child(writer, folder, name, arguments):
    import tempfile

    os.chdir(folder)
    multiprocessing.set_start_method(None, force=True)  # as in a process that nobody forked
    sys.argv = [name, *arguments]
    torch.set_num_threads(1)
    no_needless_work()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            runpy.run_path(str(tool_path(name)), run_name='__main__')
        except SystemExit as end:
            if isinstance(end.code, str):  # printed by the interpreter, not by a fork
                print(end.code, file=sys.stderr)
            raise
        except Exception:
            import traceback

            traceback.print_exc()
            sys.exit(1)
        finally:
            for key, stream, file in (('out', sys.stdout, out), ('err', sys.stderr, err)):
                stream.flush()
                file.seek(0)
                writer.send((key, file.read().decode()))


def run_command(*command, cwd=None, **env) -> Run:
    """Run a command as a user does."""
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHON': sys.executable, **env}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=env)
    return Run(done.returncode, done.stdout, done.stderr)


def free_port() -> str:
    """A port that nobody listens on, for processes of one run to meet at."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return str(s.getsockname()[1])


def once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that ``make`` fills once, also where pytest-xdist runs several processes."""
    base = tmp_path_factory.getbasetemp()
    if os.environ.get('PYTEST_XDIST_WORKER'):
        base = base.parent  # the workers' common folder
    folder = base / name
    with open(base / f'{name}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / '.made').exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (folder / '.made').touch()
    return folder
