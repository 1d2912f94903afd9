"""Base class of tasks: what a run, a prediction, a report and an export need of one."""

from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from lspt_mm.errors import InputError


class Prediction(NamedTuple):
    """A model's prediction for one image.

    ``labels``: in the form of the truth, such as class numbers (H, W) or (1,). ``scores``: (K,),
    the probability of each class, where the task has one for the whole image.
    """

    labels: np.ndarray
    scores: Optional[np.ndarray] = None


class ClassShare(NamedTuple):
    """A class in a description: ``share``, 0 to 1, is of the area or the probability.

    ``colour`` (RGB) is that of the class in the picture, None without a picture.
    """

    number: int
    name: str
    share: Optional[float] = None
    colour: Optional[Tuple[int, int, int]] = None


class Description(NamedTuple):
    """A prediction or truth for display: ``picture`` (H, W, 3) uint8 RGB and its classes."""

    picture: Optional[np.ndarray]
    classes: List[ClassShare]


class Task:
    """Base class of tasks. A new one is a subclass in one file, registered there.

    In the order in which a run needs it:

    - :attr:`scope`, :attr:`name`, :meth:`of`: the config's ``default_scope``, the name in messages,
      and a task of the same scope that a config may mean instead.
    - :meth:`build`, :meth:`head`, :meth:`class_names`: the model.
    - :meth:`class_weight`, :meth:`linear_layer`, :meth:`linear_model`: a linear classifier on
      frozen features as the baseline and the head's start (:meth:`start_at`, :meth:`fold`).
    - :meth:`show`, :meth:`use_tta`, :meth:`dump`: ``tools/test.py --show-dir``, ``--tta``,
      ``--out``, written into the config.
    - :meth:`truth`, :meth:`prediction`: from data samples to arrays.
    - :attr:`metric`, :attr:`evaluator`, :attr:`class_metric`, :meth:`counts`, :meth:`score`,
      :meth:`class_scores`, :meth:`occurrences`: how predictions are judged.
    - :attr:`dense`, :attr:`exclusive`, :meth:`describe`, :meth:`pixel_classes`, :meth:`drawer`:
      pictures and tables of a prediction or a truth.
    - :attr:`columns`, :meth:`write`: the files of ``tools/predict.py``.
    - :meth:`logits`, :attr:`least_patches`: the exported model.

    Shapes: K classes, H and W pixels. Methods that raise NotImplementedError must be overridden;
    the rest are defaults.
    """

    #: ``default_scope`` of the configs.
    scope: str
    #: Name in messages, such as 'segmentation'.
    name: str
    #: Where the model has its head.
    head_name = 'head'
    #: Whether a prediction has a class for each pixel.
    dense = False
    #: Whether an image or a pixel has one class; otherwise any number of them.
    exclusive = True
    #: Name of :meth:`score`, and key of it in the results of validations and tests.
    metric: str
    metric_key: str
    #: Config of an evaluator that measures it.
    evaluator: dict
    #: Title of :meth:`class_scores`, and what a class's truth is counted in.
    class_metric = ''
    counted_in = 'images'
    #: Columns of ``predictions.csv`` after the image.
    columns: Tuple[str, ...] = ()
    #: Minimum height and width of images, in patches. A tracer treats maps of one row as a special
    #: case.
    least_patches = 2

    def of(self, cfg: Config) -> 'Task':
        """The task of a config of this scope: this one, or a variant."""
        return self

    # ---- the model ----------------------------------------------------------------------------

    def build(self, cfg: Config) -> nn.Module:
        """Build the config's model with random weights."""
        init_default_scope(self.scope)
        model = dict(cfg.model)
        if cfg.get('data_preprocessor') is not None:  # as MMEngine's Runner does
            model.setdefault('data_preprocessor', cfg.data_preprocessor)
        return MODELS.build(model)

    def head(self, model: nn.Module) -> Optional[nn.Module]:
        """The part of ``model`` that turns features into logits; None without one."""
        return getattr(model, self.head_name, None)

    def class_weight(self, model: nn.Module) -> Optional[Sequence[float]]:
        """Weight of each class in the head's loss, (K,); None is 1 each."""
        return None

    def linear_layer(self, model: nn.Module) -> Optional[nn.Module]:
        """The linear layer of the head that reads a ViT's features; None without one."""
        return None

    def starts_from_fit(self, model: nn.Module) -> bool:
        """Whether the model can :meth:`start_at` a fit: a ``Standardize`` neck, a linear layer."""
        neck = getattr(model, 'neck', None)
        return hasattr(neck, 'start_at') and self.linear_layer(model) is not None

    def start_at(self, model: nn.Module, fit) -> None:
        """Initialise the model's linear layer with a fit.

        Logits are divided by the fit's temperature. Otherwise the training images, which a fit of
        few images separates, would have no loss, and prompts next to no gradient.

        Args:
            model: One that :meth:`starts_from_fit`.
            fit: With weight (K, D), bias (K,) and temperature, for features that are standardised
                by mean and std (D,).
        """
        model.neck.start_at(fit.mean, fit.std)
        layer = self.linear_layer(model)
        with torch.no_grad():
            for own, value in ((layer.weight, fit.weight), (layer.bias, fit.bias)):
                own.copy_(torch.as_tensor(value / fit.temperature).reshape(own.shape))

    def fold(self, model: nn.Module) -> None:
        """Put the standardisation before a linear head into its layer; the logits stay the same."""
        if self.starts_from_fit(model):
            model.neck.fold(self.linear_layer(model))

    def linear_model(self, model: nn.Module, fit) -> nn.Module:
        """A model for inference: ``model``'s frozen ViT without prompts, and ``fit`` as its head.

        Tasks with :attr:`dense` predictions have it, to evaluate a fit by pixels.
        """
        raise NotImplementedError

    def class_names(self, model: nn.Module, given: Optional[Sequence[str]] = None) -> List[str]:
        """Names of a model's classes: those given, those it was trained on, or else numbers.

        Names are ignored if their number differs from the classes of the head.
        """
        count = getattr(self.head(model), 'num_classes', None)
        meta = getattr(model, 'dataset_meta', None) or {}
        for names in (given, meta.get('classes')):
            if names and count in (None, len(names)):
                return [str(name) for name in names]
        return [f'class {number}' for number in range(count or 0)]

    # ---- tools/test.py ------------------------------------------------------------------------

    def show(self, cfg: Config, folder: str) -> None:
        """Make the run's visualization hook draw predictions into ``folder``."""
        raise InputError(f'--show-dir: {self.name} has no pictures of its predictions')

    def use_tta(self, cfg: Config) -> None:
        """Wrap the model and replace the pipeline by the config's ``tta_*`` entries."""
        if cfg.get('tta_model') is None:
            raise InputError('--tta: the config has no tta_model and tta_pipeline')
        if cfg.get('tta_pipeline') is not None:
            cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.model = dict(cfg.tta_model, module=cfg.model)

    def dump(self, cfg: Config, out: str) -> None:
        """Store what the model predicts: all data samples in the file ``out`` (.pkl)."""
        evaluators = cfg.test_evaluator
        evaluators = evaluators if isinstance(evaluators, (list, tuple)) else [evaluators]
        cfg.test_evaluator = [*evaluators, {'type': 'DumpResults', 'out_file_path': out}]

    # ---- data samples -------------------------------------------------------------------------

    def truth(self, sample) -> Optional[np.ndarray]:
        """The truth of a data sample; None without one."""
        raise NotImplementedError

    def label_matrix(
        self, samples: Optional[Sequence], num_classes: Optional[int]
    ) -> Optional[Tensor]:
        """The classes that occur in each data sample, (B, K) of bool; None without truths."""
        truths = [self.truth(sample) for sample in samples or ()]
        if not truths or not num_classes or any(truth is None for truth in truths):
            return None
        rows = torch.zeros(len(truths), num_classes, dtype=torch.bool)
        for row, truth in zip(rows, truths, strict=True):
            known = truth[(truth >= 0) & (truth < num_classes)].astype(np.int64)
            row[torch.from_numpy(np.bincount(known, minlength=num_classes) > 0)] = True
        return rows

    def prediction(self, sample) -> Prediction:
        """The prediction that ``model.predict`` has put into a data sample."""
        raise NotImplementedError

    # ---- scores -------------------------------------------------------------------------------

    def counts(self, truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
        """Counts of one image for :meth:`score`; counts of several images add up.

        Here a confusion matrix (K, K), rows by true class, columns by predicted class.

        Args:
            truth: Class numbers of any shape; those outside 0 .. K-1 (as 255) are left out.
            predicted: Class numbers of the same shape, 0 .. K-1.
            num_classes: K.
        """
        from mmpretrain.evaluation import ConfusionMatrix

        judged = (truth >= 0) & (truth < num_classes)
        pairs = (torch.from_numpy(a[judged].astype(np.int64)) for a in (predicted, truth))
        return ConfusionMatrix.calculate(*pairs, num_classes).numpy()

    def measured_by(self, evaluator: dict) -> bool:
        """Whether the evaluator of this config measures the task's metric."""
        return str(evaluator.get('type')).split('.')[-1] == self.evaluator['type']

    def score(self, counts: np.ndarray) -> Optional[float]:
        """The metric of the images in ``counts``, in per cent where it is a share."""
        raise NotImplementedError

    def class_scores(self, counts: np.ndarray) -> List[float]:
        """:attr:`class_metric` of each class; NaN where it is not defined; [] without classes."""
        return []

    def occurrences(self, counts: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
        """How often each class is true and how often it was predicted, (K,) each."""
        return counts.sum(1), counts.sum(0)

    # ---- pictures and tables ------------------------------------------------------------------

    def describe(
        self, prediction: Prediction, classes: Sequence[str], palette: Sequence,
        top: Optional[int] = None,
    ) -> Description:
        """A prediction, or a truth in its place, as a picture or names of classes.

        Args:
            prediction: Of one image.
            classes: K names.
            palette: K colours, RGB.
            top: How many classes are named where all have a probability, the likeliest first; None:
                the predicted ones, which may be none.
        """
        raise NotImplementedError

    def pixel_classes(self, truth: np.ndarray) -> Optional[np.ndarray]:
        """The truth as a class for each pixel (H, W), 255 for none; None if it is not spatial.

        The overlap of attention with classes is measured by it.
        """
        return None

    def drawer(self, metainfo: dict) -> Callable:
        """A function that draws images of a data set with their truth.

        Its arguments: name, image (H, W, 3) uint8 RGB, data sample or None; by keyword show,
        wait_time, out_file.
        """
        raise InputError(f'{self.name}: no pictures of a data set can be drawn')

    # ---- tools/predict.py ---------------------------------------------------------------------

    def write(
        self, out: Path, name: str, path: Path, prediction: Prediction, classes: Sequence[str],
        palette: Sequence, top: Optional[int],
    ) -> Tuple[str, List[tuple]]:
        """Write a prediction below ``out``.

        Args:
            out: Folder that exists.
            name: Of the image's files in it, without suffix.
            path: The image.
            prediction: Of it.
            classes: K names.
            palette: K colours, RGB.
            top: As in :meth:`describe`.

        Returns:
            A line with the result, and rows of ``predictions.csv`` (:attr:`columns`).
        """
        raise NotImplementedError

    # ---- export -------------------------------------------------------------------------------

    def logits(self, model: nn.Module, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits; traced by ``torch.export``."""
        return self.head(model)(model.extract_feat(images))


_TASKS: Dict[str, Task] = {}


def register_task(task: type) -> type:
    """Class decorator: make a :class:`Task` known under its ``scope``."""
    _TASKS[task.scope] = task()
    return task


def task_of(cfg: Config) -> Task:
    """The task of a config, by its ``default_scope`` (mmseg's, as MMEngine has it, without one).

    :meth:`Task.of` chooses between tasks of one scope.

    Raises:
        InputError: If no task of that scope is registered.
    """
    scope = cfg.get('default_scope') or 'mmseg'
    if scope not in _TASKS:
        known = ', '.join(map(repr, _TASKS))
        raise InputError(f"the config's default_scope is {scope!r}, expected one of {known}")
    return _TASKS[scope].of(cfg)


def takes_rgb(preprocessor: nn.Module) -> bool:
    """Whether a data preprocessor turns its images' BGR, as OpenCV reads them, to RGB."""
    # Its names in mmpretrain, mmseg and mmengine.
    names = ('to_rgb', 'channel_conversion', '_channel_conversion')
    return any(getattr(preprocessor, name, False) for name in names)
