"""Continual learning: one backbone learns the classes of a data set in tasks, in sequence."""

import copy
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn

from lspt_mm.apis.training import check_resumed, run_config, train
from lspt_mm.checkpoints import read_checkpoint
from lspt_mm.config.options import DEFAULT_BACKBONE
from lspt_mm.config.preflight import datasets_of, training_images
from lspt_mm.engine.unwrapping import model_of
from lspt_mm.engine.work_dir import latest_checkpoint, locked_work_dir
from lspt_mm.errors import InputError
from lspt_mm.recipes import METHODS, images_of
from lspt_mm.registry import MODELS, PROMPTERS
from lspt_mm.tasks import task_of
from lspt_mm.utils.atomic_io import atomic_write, read_json, write_json
from lspt_mm.utils.checks import check_int
from lspt_mm.utils.cli import check_writable

#: Files in ``out``: settings, later results. Of a task: its accuracies, and all it has tuned.
SUMMARY, ACCURACY, END = 'continual.json', 'accuracy.json', 'end.pth'


class Scores(NamedTuple):
    """Results of class-incremental learning.

    Attributes:
        accuracies: Row t has the accuracy after task t on the held-out images of each task so far,
            in per cent. The prediction is the best of all classes so far.
        average_accuracy: Mean of the last row.
        average_incremental_accuracy: Mean over t of the means of the rows.
        forgetting: Mean over all tasks but the last of the drop from a task's best accuracy before
            the last task to its accuracy at the end.
    """

    accuracies: List[List[float]]
    average_accuracy: float
    average_incremental_accuracy: float
    forgetting: float


def scores_of(accuracies: Sequence[Sequence[float]]) -> Scores:
    """The averages of :class:`Scores` for rows of 1, 2, .. T accuracies, T at least 2."""
    last = accuracies[-1]
    drops = [
        max(row[j] for row in accuracies[j:-1]) - last[j] for j in range(len(accuracies) - 1)
    ]
    return Scores(
        [list(row) for row in accuracies], float(np.mean(last)),
        float(np.mean([np.mean(row) for row in accuracies])), float(np.mean(drops)),
    )


def split_classes(num_classes: int, splits: int, seed: int) -> List[List[int]]:
    """Divide classes 0 .. K-1, in random order, into ``splits`` tasks of equal size within one."""
    check_int('splits', splits, 2)
    if splits > num_classes // 2:
        raise InputError(
            f'splits={splits}: expected at most {num_classes // 2}, as each task needs two of the '
            f'{num_classes} classes'
        )
    order = np.random.default_rng(seed).permutation(num_classes)
    return [part.tolist() for part in np.array_split(order, splits)]


def train_continual(
    data: Union[str, Path],
    out: Union[str, Path],
    splits: int = 5,
    backbone: str = DEFAULT_BACKBONE,
    method: str = 'nsp2',
    seed: int = 0,
    amp: bool = False,
    resume: bool = False,
    options: Optional[Mapping[str, Any]] = None,
    verbose: bool = False,
) -> Scores:
    """Learn the classes of a folder in tasks; each task is a run of ``imagefolder/transfer.py``.

    What is tuned in the backbone continues from task to task. Every task has a head of its own,
    trained on its classes alone, from a fit on features without prompts. Predictions compare the
    logits of all heads so far. After each task the method may consolidate it
    (:meth:`~lspt_mm.models.prompters.base.Prompter.consolidate`).

    Args:
        data: Folder that ``prepare.py imagefolder`` wrote.
        out: Folder of the results (``continual.json``), with the run of task t in ``task_t``.
        splits: Number of tasks.
        backbone: The ViT's weights, ``timm:NAME`` or a file.
        method: As of :func:`train_classification`, without 'auto', 'da-vpt' and 'dapt', whose
            losses belong to the classes of one task.
        seed: Of the order of the classes and of the runs.
        amp: Mixed precision.
        resume: Continue after the last finished task, or inside an unfinished one.
        options: As of :func:`train_classification`, for every task.
        verbose: Print MMEngine's log instead of one line of progress.

    Raises:
        InputError: For data, a ViT or a value that cannot be used; if ``out`` has results and not
            ``resume``, or those of other settings.
    """
    data, out = Path(data).expanduser(), Path(out).expanduser()
    about = images_of(str(data))
    if about['multi_label']:
        raise InputError(f'{data} is multi-label; expected one class for each image')
    try:
        tasks = split_classes(len(about['classes']), splits, seed)
    except ValueError as error:
        raise InputError(str(error)) from error
    prompter = METHODS[method].prompter if method in METHODS else None
    if prompter and PROMPTERS.get(prompter['type']).PREPARES_FROM_ALL:
        raise InputError(f'method={method}: its losses belong to the classes of a single task')
    names = [[about['classes'][i] for i in classes] for classes in tasks]
    options = dict(options or {})
    settings = dict(
        data=str(data), splits=splits, backbone=str(backbone), method=method, seed=seed, amp=amp,
        options={k: str(v) for k, v in options.items()}, tasks=names,
    )
    _check_settings(out / SUMMARY, settings, resume)
    arguments = dict(task=str(data), pretraining=str(backbone), method=method)
    accuracies: List[List[float]] = []
    check_writable(out, f'out={out}', '; name another folder')
    with locked_work_dir(out):
        for number, classes in enumerate(tasks, 1):
            folder = out / f'task_{number}'
            done = folder / ACCURACY
            if not (resume and done.is_file()):
                cfg = run_config('imagefolder/transfer.py', folder, arguments, options, seed, amp)
                _narrow(cfg, classes, names[number - 1])
                if number == 1:
                    write_json(out / SUMMARY, settings)
                else:
                    end = str(out / f'task_{number - 1}' / END)
                    cfg.custom_hooks.append(dict(type='lspt_mm.WarmStartHook', checkpoint=end))
                checkpoint = latest_checkpoint(str(folder)) if resume else None
                if checkpoint is not None:
                    cfg.resume, cfg.load_from = True, checkpoint
                runner = train(cfg, progress=not verbose)
                write_json(done, _finish(runner, out, number))
            accuracies.append(read_json(done))
            text = ', '.join(f'{value:.2f}' for value in accuracies[-1])
            print(f'accuracy after task {number}, by task: {text}', flush=True)
    scores = scores_of(accuracies)
    write_json(out / SUMMARY, {**settings, **scores._asdict()})
    return scores


def _check_settings(path: Path, settings: Dict[str, Any], resume: bool) -> None:
    """Raise InputError if there are results of other settings, or any without ``resume``."""
    if not path.is_file():
        return
    check_resumed(path.parent, path.name, resume)
    found = read_json(path)
    other = [key for key, value in settings.items() if found.get(key) != value]
    if other:
        texts = ', '.join(f'{key}={found.get(key)!r}' for key in other)
        raise InputError(f'{path} is of other settings, {texts}; resume with these')


def _narrow(cfg: Config, classes: Sequence[int], names: Sequence[str]) -> None:
    """Restrict a config to some classes, numbered in this order; writes lists to the work dir."""
    if cfg.experiment['balance'] != 'none':
        raise InputError(f'balance={cfg.experiment["balance"]}: expected none, for tasks')
    folder, numbers = Path(cfg.work_dir), {label: i for i, label in enumerate(classes)}
    folder.mkdir(parents=True, exist_ok=True)
    for dataset in datasets_of(cfg, [f'{part}_dataloader' for part in ('train', 'val', 'test')]):
        images = read_json(Path(dataset.data_root) / dataset.ann_file).items()
        own = {name: numbers[label] for name, label in images if label in numbers}
        if not own:
            raise InputError(f'{dataset.ann_file}: no image of the classes {", ".join(names)}')
        path = folder.absolute() / f'images_{dataset.ann_file}'
        write_json(path, own)
        dataset.update(
            ann_file=str(path), num_classes=len(classes), metainfo=dict(classes=list(names))
        )
    cfg.model.head.num_classes = len(classes)


@torch.no_grad()
def _finish(runner: Runner, out: Path, number: int) -> List[float]:
    """Consolidate a trained task, save what it has tuned, and test all tasks so far."""
    model, vit = model_of(runner).eval(), model_of(runner).backbone
    if vit.prompter is not None:
        images = ((inputs, None) for inputs, _ in _batches(runner, training_images(runner.cfg)))
        line = vit.prompter.consolidate(vit, images)
        if line:
            print_log(f'{type(vit.prompter).__name__}: {line}', 'current')
    described = vit.describe()
    frozen = {f'backbone.{name}' for name in described.tensors if name not in described.trained}
    state = {k: v.cpu() for k, v in model.state_dict().items() if k not in frozen}
    with atomic_write(out / f'task_{number}' / END) as path:
        torch.save(dict(state_dict=state), path)
    heads, sets = [], []
    for task in range(1, number + 1):
        folder = out / f'task_{task}'
        cfg = Config.fromfile(next(folder.glob('*.py')))
        heads.append(_head(cfg, read_checkpoint(str(folder / END))['state_dict']))
        sets.append(cfg.test_dataloader.dataset)
    device = next(model.parameters()).device
    heads = [head.to(device).eval() for head in heads]
    return [_accuracy(runner, sets[j], heads, j) for j in range(number)]


def _head(cfg: Config, state: Mapping[str, Tensor]) -> nn.Sequential:
    """Neck and head of a task."""
    parts = nn.Sequential()
    for name in ('neck', 'head'):
        if cfg.model.get(name) is not None:
            module = MODELS.build(cfg.model[name])
            own = {k.removeprefix(f'{name}.'): v for k, v in state.items()
                   if k.startswith(f'{name}.')}
            module.load_state_dict(own)
            parts.append(module)
    return parts


def _batches(runner: Runner, dataset: dict) -> Iterator[Tuple[Tensor, np.ndarray]]:
    """Preprocessed images and their labels, in the order of the list."""
    cfg = copy.deepcopy(runner.cfg.test_dataloader)
    cfg.update(dataset=copy.deepcopy(dataset), persistent_workers=False)
    model, task = model_of(runner), task_of(runner.cfg)
    for batch in Runner.build_dataloader(cfg, runner.seed):
        packed = model.data_preprocessor(batch, False)
        labels = np.concatenate([task.truth(sample) for sample in packed['data_samples']])
        yield packed['inputs'], labels


def _accuracy(runner: Runner, dataset: dict, heads: Sequence[nn.Module], task: int) -> float:
    """Per cent of a task's images whose best class, of those of all heads, is the true one."""
    right = count = 0
    for inputs, labels in _batches(runner, dataset):
        features = model_of(runner).backbone(inputs)
        logits = [head(features) for head in heads]
        before = sum(one.size(1) for one in logits[:task])
        best = torch.cat(logits, dim=1).argmax(dim=1).cpu().numpy()
        right += int((best == labels + before).sum())
        count += len(labels)
    return 100 * right / count
