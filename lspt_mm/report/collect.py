"""Runs a model on images one by one and collects what a report shows."""

from contextlib import ExitStack
from functools import partial
from typing import Dict, List, Optional, Tuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from rich.progress import track
from torch import Tensor, nn

from lspt_mm.analysis.alignment import MIN_IMAGES, AlignmentTrace
from lspt_mm.analysis.attention import BlockAttention, attention_of
from lspt_mm.analysis.burstiness import Burstiness, burstiness
from lspt_mm.analysis.forgetting import PromptTrace
from lspt_mm.analysis.localization import Localization, classes_of_patches, localization
from lspt_mm.analysis.lstm_gates import GateTrace
from lspt_mm.analysis.runs import FinishedRun
from lspt_mm.analysis.similarity import PersistenceTrace
from lspt_mm.apis.model import init_model
from lspt_mm.config.preflight import check_data_is_there, training_images
from lspt_mm.engine.hooks.linear_baseline_hook import remarks as of_baseline
from lspt_mm.engine.hooks.trainable_report_hook import count_parameters
from lspt_mm.errors import InputError
from lspt_mm.models.prompted_backbone import PromptedBackbone
from lspt_mm.registry import MODELS
from lspt_mm.report.results import Picture, RunResult
from lspt_mm.tasks import Prediction
from lspt_mm.utils.images import IGNORE_INDEX
from lspt_mm.utils.overlay import colours_of

#: Maximum number of images whose prompts are kept: (images, P, D) for every block, twice.
TRACED_IMAGES = 32
#: Maximum number of images whose features are compared with the plain ViT's: (images, 32, D) for
#: every block, twice.
ALIGNED_IMAGES = 64
#: Images that whitening is computed from; burstiness is measured on as many others.
BURSTINESS_IMAGES = 32


class Collector:
    """Runs a model on one image after the other and keeps what a report needs of each.

    Args:
        model: The run's model, from :func:`lspt_mm.apis.init_model`.
        run: The run of the model.
        dataset: Images with their truth, by the pipeline that the run is tested with.
        shown: Positions in the data set of the images that are kept as pictures.
    """

    def __init__(self, model: nn.Module, run: FinishedRun, dataset, shown: List[int]):
        self.model, self.run, self.dataset = model, run, dataset
        self.task, self.vit = run.task, model.backbone
        self.classes = self.task.class_names(model, dataset.metainfo.get('classes'))
        self.shown = shown
        self.counts: Optional[np.ndarray] = None
        self.trace = PromptTrace()
        self.gates = GateTrace.of(self.vit.prompter)
        self.plain, self.not_aligned = plain_vit(model)
        self.alignment = AlignmentTrace()
        self.persistence = {'cls': PersistenceTrace(), 'prompts': PersistenceTrace()}
        self.placed: Dict[str, Dict[int, List[Localization]]] = {'cls': {}, 'prompts': {}}
        self.before: List[BlockAttention] = []  # of the image before
        self.features: List[np.ndarray] = []
        self.feature_classes: List[int] = []
        self.inputs: List[Tensor] = []
        self.pictures: List[Picture] = []
        self.seen = 0

    @torch.no_grad()
    def add(self, index: int) -> None:
        """Run the model on one image of the data set."""
        item = self.dataset[index]
        data = self.model.data_preprocessor(pseudo_collate([item]), False)
        img, sample = data['inputs'], data['data_samples'][0]
        truth = self.task.truth(sample)
        predicted = self.task.prediction(self.model.predict(img, [sample])[0])
        if truth is not None:
            counts = self.task.counts(truth, predicted.labels, len(self.classes))
            self.counts = counts if self.counts is None else self.counts + counts
        if len(self.inputs) < 2 * BURSTINESS_IMAGES:
            self.inputs.append(img)
        blocks, grid = self._unroll(img)
        patches = self._patches(truth, img, grid)
        for block in blocks:
            for who, by_block in self.placed.items():
                weights = getattr(block, who)
                if weights is not None:
                    others = getattr(self.before[block.number - 1], who) if self.before else None
                    found = localization(weights, patches, others)
                    by_block.setdefault(block.number, []).append(found)
        for who, trace in self.persistence.items():
            trace.add([_of_one_image(block, who) for block in blocks])
        self.before = blocks
        self._take_features(img, truth, patches)
        if index in self.shown:
            self.pictures.append(self._picture(item, truth, predicted, blocks, index))
        self.seen += 1

    def _unroll(self, img: Tensor) -> Tuple[List[BlockAttention], Tuple[int, int]]:
        """Attention of all blocks and the grid of patches; traces prompts and gates on the way."""
        blocks: List[BlockAttention] = []
        grids: List[Tuple[int, int]] = []

        def trace(step) -> None:
            blocks.append(attention_of(self.vit, step))
            grids.append(step.hw)
            if self.seen < TRACED_IMAGES:
                self.trace.add(step)
            if aligned:
                self.alignment.add('tuned', step)

        aligned = self.plain is not None and self.seen < ALIGNED_IMAGES
        if aligned:
            self.plain.unroll(img, partial(self.alignment.add, 'plain'), prompted=False)

        with ExitStack() as stack:
            if self.gates is not None:
                stack.enter_context(self.gates.watching())
            self.vit.unroll(img, trace)
        return blocks, grids[0]

    def _patches(self, truth, img: Tensor, grid: Tuple[int, int]) -> Optional[Tensor]:
        """The class of each patch, where the truth is spatial."""
        pixels = None if truth is None else self.task.pixel_classes(truth)
        if pixels is None:
            return None
        label = torch.from_numpy(pixels.astype(np.int64))
        label[(label < 0) | (label >= len(self.classes))] = IGNORE_INDEX
        patch = self.vit.patch_size[0]
        return classes_of_patches(label, img.shape[-2:], grid, patch).to(img.device)

    def _take_features(self, img: Tensor, truth, patches: Optional[Tensor]) -> None:
        """The last features: of an image, or for each of its classes the mean over its patches."""
        feature = self.vit(img)[-1][0].float().cpu()
        if feature.dim() == 1:
            if truth is not None and self.classes and len(truth) == 1:  # drawn in its colour
                self.features.append(feature.numpy())
                self.feature_classes.append(int(truth[0]))
        elif feature.dim() == 3 and patches is not None:
            patches = patches.cpu()
            for number in patches.unique().tolist():
                if number != IGNORE_INDEX:
                    self.features.append(feature[:, patches == number].mean(1).numpy())
                    self.feature_classes.append(number)

    def _picture(self, item, truth, predicted, blocks, index: int) -> Picture:
        pixels = item['inputs']
        if pixels.dtype != torch.uint8:
            raise InputError(
                f'{self.run.folder}: images come out of its pipeline as {pixels.dtype}, expected '
                'uint8 (the data preprocessor normalises them)'
            )
        pixels = pixels.permute(1, 2, 0).numpy()[..., ::-1]  # pipelines load BGR
        path = item['data_samples'].get('img_path')
        return Picture(
            name=str(path).rsplit('/', 1)[-1] if path else f'image {index}',
            index=index,
            pixels=np.ascontiguousarray(pixels),
            truth=None if truth is None else Prediction(_nearest(truth, pixels.shape[:2])),
            predicted=predicted._replace(labels=_nearest(predicted.labels, pixels.shape[:2])),
            cls=[None if b.cls is None else _numpy(b.cls[0]) for b in blocks],
            prompts=[None if b.prompts is None else _numpy(b.prompts[0].mean(0)) for b in blocks],
        )

    def result(self) -> RunResult:
        """All collected results."""
        few = self.plain is not None and self.seen < MIN_IMAGES
        if few:
            self.not_aligned = f'{self.seen} images; expected at least {MIN_IMAGES}'
        prompter = self.vit.prompter
        burst, left_out = self._burstiness()
        return RunResult(
            run=self.run,
            classes=self.classes,
            palette=colours_of(len(self.classes), self.dataset.metainfo.get('palette')),
            parameters=count_parameters(self.model),
            method=None if prompter is None else type(prompter).__name__,
            start_block=None if prompter is None else prompter.start_block,
            images=self.seen,
            confusion=self.counts,
            forgetting=self.trace.result(),
            alignment={} if few else self.alignment.result(),
            not_aligned=self.not_aligned,
            persistence={who: t.result() for who, t in self.persistence.items() if t.seen},
            localization={
                who: {number: _mean(found) for number, found in sorted(by_block.items())}
                for who, by_block in self.placed.items()
                if by_block
            },
            per_block_stats={} if prompter is None else prompter.per_block_stats(),
            memory_gates=self.gates.result() if self.gates is not None else [],
            burstiness=burst,
            features=np.array(self.features),
            feature_classes=np.array(self.feature_classes, int),
            pictures=self.pictures,
            remarks=[*_remarks(self.run, self.model), *of_baseline(self.run.folder), *left_out],
        )

    def _burstiness(self) -> Tuple[List[Burstiness], List[str]]:
        """Burstiness of the plain ViT, or none and a remark that says why."""
        vit = self.plain
        if vit is None and not any(p.requires_grad for p in self.vit.parameters()):
            vit = self.vit
        if vit is None or len(self.inputs) < 2:
            return [], []
        try:
            blocks = range(1, vit.num_layers + 1)
            return burstiness(vit, self.inputs[0::2], self.inputs[1::2], blocks), []
        except ValueError as error:
            return [], [f'burstiness is left out: {error}']


def plain_vit(model: nn.Module) -> Tuple[Optional[PromptedBackbone], str]:
    """The ViT before it was tuned, to be run with ``unroll(prompted=False)``.

    Returns:
        tuple: The model's own ViT if only prompts or LoRA are trained, which are switched off;
        another one, read from ``pretrained``, if its parameters are trained. None if nothing is
        trained, and if ``pretrained`` cannot be read; then the reason as well.
    """
    vit = model.backbone
    if not any(p.requires_grad for p in vit.parameters()):
        return None, ''
    if not any(tensor.requires_grad for tensor in vit.own_tensors().values()):
        return vit, ''
    if vit.pretrained is None:
        return None, 'the ViT was random before it was trained'
    plain = MODELS.build({**model.cfg.model.backbone, 'prompter': None, 'tune': 'nothing'})
    try:
        plain.init_weights()
    except InputError as error:
        return None, str(error)
    return plain.to(next(vit.parameters()).device).eval(), ''


def _of_one_image(block: BlockAttention, who: str) -> Optional[Tensor]:
    """(Q, N): a map for each head of the class token, or for each prompt, over the heads."""
    weights = getattr(block, who)
    if weights is None:
        return None
    return (weights[0] if who == 'cls' else weights[0].mean(1)).flatten(-2)


def _mean(found: List[Localization]) -> Localization:
    table = np.array(found)
    valid = ~np.isnan(table)
    sums = np.where(valid, table, 0).sum(0)
    with np.errstate(invalid='ignore'):
        return Localization(*(sums / valid.sum(0)).tolist())


def _nearest(label: np.ndarray, size) -> np.ndarray:
    """Labels (h, w) at another size; others stay as they are."""
    if label.ndim != 2 or label.shape == tuple(size):
        return label
    rows = (np.arange(size[0]) + 0.5) * label.shape[0] / size[0]
    columns = (np.arange(size[1]) + 0.5) * label.shape[1] / size[1]
    return label[rows.astype(int)][:, columns.astype(int)]


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()


def collect_results(
    run: FinishedRun,
    split: str = 'val',
    images: int = 64,
    pictures: int = 8,
    pretrained: Optional[str] = None,
    device: Optional[str] = None,
    progress: bool = False,
) -> RunResult:
    """Load a run's model and run it on images evenly spaced over one of its data sets.

    Args:
        run: From :func:`~lspt_mm.analysis.runs.find_runs`.
        split: ``'train'``, ``'val'`` or ``'test'``: the config's data loader.
        images: Number of images for the numbers of the report.
        pictures: How many of them are kept to be shown.
        pretrained: File of the ViT's weights, instead of the config's.
        device: Device of the model; None: a GPU if there is one.
        progress: Show a bar.

    Raises:
        InputError: If data or weights are missing, or the checkpoint does not fit.
    """
    collector, chosen = _collector(run, split, images, pictures, pretrained, device)
    for index in track(chosen, run.name, disable=not progress):
        collector.add(index)
    return collector.result()


def collect_pictures(
    run: FinishedRun,
    split: str = 'val',
    images: int = 8,
    pretrained: Optional[str] = None,
    device: Optional[str] = None,
) -> List[Picture]:
    """The pictures of :func:`collect_results` alone."""
    collector, chosen = _collector(run, split, images, images, pretrained, device)
    for index in chosen:
        collector.add(index)
    return collector.pictures


def _collector(
    run, split, images, pictures, pretrained, device
) -> Tuple[Collector, List[int]]:
    """The collector of a run, and the positions of the images in its data set."""
    loader = f'{split}_dataloader'
    model = init_model(run.cfg, run.checkpoint, pretrained, device)
    if run.cfg.get(loader) is None:
        raise InputError(f'{run.folder}: its config has no {loader}')
    check_data_is_there(run.cfg, (loader,))
    plain = training_images(run.cfg) if split == 'train' else run.cfg[loader].dataset
    dataset = DATASETS.build(plain)
    chosen = evenly_spaced(len(dataset), images)
    shown = [chosen[position] for position in evenly_spaced(len(chosen), pictures)]
    return Collector(model, run, dataset, shown), chosen


def _remarks(run: FinishedRun, model: nn.Module) -> List[str]:
    """Warnings about a run, for the top of its report."""
    remarks, iteration = [], model.checkpoint_meta.get('iter')
    if model.random_backbone:
        remarks.append('trained on a random ViT (--random-backbone): its numbers mean nothing')
    if run.curves and iteration is not None and run.iterations != iteration:
        remarks.append(
            f'its log ends at iteration {run.iterations}, the checkpoint is of {iteration}: '
            'the run is not finished, was interrupted, or was started again since'
        )
    return remarks


def evenly_spaced(available: int, wanted: int) -> List[int]:
    """``wanted`` numbers of 0 .. available-1 from end to end, all if there are no more."""
    count = min(available, wanted)
    return [(2 * i + 1) * available // (2 * count) for i in range(count)]

