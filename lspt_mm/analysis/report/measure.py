"""Measuring what a report says of one run, on images of its own data."""

from typing import Callable, List, Optional, Tuple

from mmengine.registry import DATASETS, init_default_scope

from lspt_mm.analysis.report.look import Look
from lspt_mm.analysis.report.measured import Measured, Picture
from lspt_mm.analysis.runs import FinishedRun
from lspt_mm.engine.preflight import check_data_is_there, check_vit_file
from lspt_mm.engine.tuned import Tuned, check_is_prompted, load_tuned
from lspt_mm.errors import InputError


def measure(
    run: FinishedRun,
    split: str = 'val',
    images: int = 64,
    pictures: int = 8,
    pretrained: Optional[str] = None,
    device: str = 'cpu',
    progress: Callable = iter,
) -> Measured:
    """Load a run's model and look at it on images evenly spaced over one of its data sets.

    Args:
        run: From :func:`~lspt_mm.analysis.runs.find_runs`.
        split: ``'train'``, ``'val'`` or ``'test'``: the config's data loader.
        images: How many images numbers are taken over.
        pictures: How many of them are kept to be shown.
        pretrained: File of the ViT's weights, instead of the config's.
        device: Device of the model.
        progress: Wraps an iterable of images, to show how far it is.

    Raises:
        InputError: If data or weights are missing, or the checkpoint does not fit.
    """
    look, chosen, remarks = _prepared(run, split, images, pictures, pretrained, device)
    for index in progress(chosen):
        look.at(index)
    found = look.result()
    found.remarks += remarks
    return found


def looked_at(
    run: FinishedRun,
    split: str = 'val',
    images: int = 8,
    pretrained: Optional[str] = None,
    device: str = 'cpu',
) -> List[Picture]:
    """The pictures of :func:`measure` alone."""
    look, chosen, _ = _prepared(run, split, images, images, pretrained, device)
    for index in chosen:
        look.at(index)
    return look.pictures


def _prepared(
    run, split, images, pictures, pretrained, device
) -> Tuple[Look, List[int], List[str]]:
    """What looks at images, the images to look at, and what is to be known of the run."""
    check_is_prompted(run.cfg)
    loader = f'{split}_dataloader'
    if run.cfg.get(loader) is None:
        raise InputError(f'{run.folder}: its config has no {loader}')
    if pretrained:
        check_vit_file(pretrained)
    check_data_is_there(run.cfg, (loader,))
    tuned = load_tuned(run.cfg, run.checkpoint, pretrained, device)
    init_default_scope(run.cfg.get('default_scope') or 'mmseg')
    dataset = DATASETS.build(_without_flips(run, loader))
    chosen = evenly_spaced(len(dataset), images)
    shown = [chosen[position] for position in evenly_spaced(len(chosen), pictures)]
    return Look(tuned.model, run, dataset, shown), chosen, _remarks(run, tuned)


def _remarks(run: FinishedRun, tuned: Tuned) -> List[str]:
    remarks = []
    if tuned.random:
        remarks.append('trained on a random ViT (--random-backbone): its numbers mean nothing')
    if run.curves and tuned.iteration is not None and run.iterations != tuned.iteration:
        remarks.append(
            f'its log ends at iteration {run.iterations}, the checkpoint is of {tuned.iteration}: '
            'the run is going on, was interrupted, or has begun anew since'
        )
    return remarks


def evenly_spaced(available: int, wanted: int) -> List[int]:
    """``wanted`` numbers of 0 .. available-1 from end to end, all if there are no more."""
    count = min(available, wanted)
    return [(2 * i + 1) * available // (2 * count) for i in range(count)]


def _without_flips(run: FinishedRun, loader: str) -> dict:
    """The data set, by the pipeline that the run is tested with."""
    dataset = dict(run.cfg[loader].dataset)
    if loader == 'train_dataloader':
        tested = run.cfg.get('val_dataloader') or run.cfg.get('test_dataloader')
        if tested is None or 'pipeline' not in dataset:
            raise InputError(
                f'{run.folder}: without a val_dataloader or test_dataloader there is no pipeline '
                'to look at training images with; take another split'
            )
        dataset['pipeline'] = tested.dataset.pipeline
    return dataset
