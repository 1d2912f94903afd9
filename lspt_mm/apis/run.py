"""A trained run as one object: its metrics, its predictions, its export."""

import os
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple, Union

import numpy as np
from PIL import Image as PILImage
from torch import nn

from lspt_mm.apis.model import build_test_runner, init_model, run_files
from lspt_mm.apis.predict import image_pipeline, listed, names_for, predict_image
from lspt_mm.config.load import apply_common_options, read_config
from lspt_mm.engine.hooks.class_scores_hook import TEST, VALIDATION
from lspt_mm.engine.runner import run
from lspt_mm.errors import InputError
from lspt_mm.tasks import task_of
from lspt_mm.utils.atomic_io import read_json
from lspt_mm.utils.cli import any_image_size, ignore_known_warnings
from lspt_mm.utils.images import read_image, to_rgb
from lspt_mm.utils.overlay import label_image, overlay

#: A path, a folder, a pattern such as ``'photos/*.jpg'``, a PIL image, an array (H, W, 3) uint8
#: RGB, or an iterable of them.
Images = Union[str, Path, PILImage.Image, np.ndarray, Iterable[Any]]
_PARTS = ('test', 'val')


class ImageResult(NamedTuple):
    """A model's result for one image.

    Attributes:
        name: Of the image's file without suffix, or ``image_N``.
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) class numbers of a segmentation; (1,) of a classification; (L,) of one with
            several labels, the classes of at least a half, L from 0 to K.
        scores: (K,) probabilities of a classification; None of a segmentation.
        classes: K names.
        palette: Their colours, RGB.
        shares: Share of each class, 0 to 1: of the pixels, of those that occur, or its
            probability; the largest first.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    scores: Optional[np.ndarray]
    classes: List[str]
    palette: List[Tuple[int, int, int]]
    shares: Dict[str, float]

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        first = ', '.join(f'{name} {share:.3f}' for name, share in list(self.shares.items())[:4])
        more = ', ...' if len(self.shares) > 4 else ''
        return f'ImageResult({self.name!r}, {width} x {height}, {first}{more})'

    def save(self, path: Union[str, Path]) -> None:
        """Write the image of a segmentation, with the classes over it and a legend.

        Args:
            path: File to write; its suffix (.png, .jpg, ...) is the format. Folders are made.

        Raises:
            InputError: For a classification, which has no picture, another suffix, or a path that
                cannot be written.
        """
        self._check_dense()
        _write(overlay(self.image, self.labels, self.classes, self.palette), path)

    def save_mask(self, path: Union[str, Path]) -> None:
        """Write the class numbers of a segmentation as a PNG that shows the classes' colours.

        Raises:
            InputError: As :meth:`save`.
        """
        self._check_dense()
        if Path(path).suffix.lower() != '.png':
            raise InputError(f'{path}: expected a name that ends in .png, as masks must not change')
        _write(label_image(self.labels, self.palette), path)

    def _check_dense(self) -> None:
        if self.labels.ndim != 2:
            raise InputError(
                'a classification has no picture to save; its classes are in shares'
            )


class Results(List[ImageResult]):
    """Results of several images."""

    def save(self, folder: Union[str, Path]) -> None:
        """Write each image's picture, ``NAME.jpg``, into a folder, made if absent.

        Raises:
            InputError: As :meth:`ImageResult.save`.
        """
        for result in self:
            result.save(Path(folder) / f'{result.name}.jpg')


class Run:
    """A trained run, opened from its work dir; nothing is read before it is used.

    Args:
        folder: Its work dir, with one config and a checkpoint.
        device: Device of :attr:`model`; None: a GPU if there is one. :meth:`test` takes a GPU
            if there is one.
        pretrained: File of the ViT's weights, instead of the one that the run names.
        checkpoint: Its name in the folder (``'iter_1000.pth'``), or a path; None: the last one.

    Raises:
        InputError: If there is no config or no such checkpoint.

    Attributes:
        folder (Path): The work dir.
        config (str): The config in it.
        checkpoint (str): The checkpoint.
    """

    def __init__(
        self,
        folder: Union[str, Path],
        device: Optional[str] = None,
        pretrained: Union[str, Path, None] = None,
        checkpoint: Union[str, Path, None] = None,
    ):
        # Absolute: they are read later, perhaps from another working folder.
        self.config, self.checkpoint = map(os.path.abspath, run_files(folder, checkpoint))
        self.folder = Path(self.config).parent
        self._device, self._pretrained = device, pretrained

    def __repr__(self) -> str:
        return f'Run({str(self.folder)!r})'

    @cached_property
    def model(self) -> nn.Module:
        """mmseg's or mmpretrain's model, loaded on first use."""
        model = init_model(self.config, self.checkpoint, self._pretrained, self._device)
        model.backbone.fuse()
        return model

    @property
    def classes(self) -> List[str]:
        """Names of the classes."""
        return self.model.dataset_meta['classes']

    @property
    def metrics(self) -> Dict[str, Any]:
        """Scores of the last validation, whichever checkpoint is opened.

        ``metric`` and its ``value`` in per cent; ``iter``, the iteration; ``class_metric`` and
        ``classes``, by name the score of each in per cent, None for one without an image.

        Raises:
            InputError: If the run has not validated.
        """
        path = self.folder / VALIDATION
        if not path.is_file():
            raise InputError(f'{path} is not there: the run has not validated yet')
        return read_json(path)

    @any_image_size()
    def test(self, data_root: Union[str, Path, None] = None) -> Dict[str, Any]:
        """Test the chosen run on the test images.

        Args:
            data_root: Folder of the data, instead of the config's.

        Returns:
            dict: As :attr:`metrics`, without ``iter``.

        Raises:
            InputError: If the data have no test images, or are not there.
        """
        cfg = read_config(self.config)
        apply_common_options(cfg, None, data_root and os.path.expanduser(data_root))
        folder = self.folder / 'test'  # the run's own config stays as it is
        cfg.work_dir, cfg.launcher = str(folder), 'none'
        cfg.experiment_name = str(folder)  # by time alone, runs of one second share a log
        test, val = (dict(cfg.get(f'{part}_dataloader') or {}).get('dataset') for part in _PARTS)
        if test is None or test == val:
            raise InputError(f'{self.folder}: its data have no test images; see Run.metrics')
        with warnings.catch_warnings():
            ignore_known_warnings()
            runner = build_test_runner(cfg, self.checkpoint, self._pretrained)
            run(runner, runner.test)
        return read_json(folder / TEST)

    @any_image_size()
    def predict(self, images: Images) -> Union[ImageResult, Results]:
        """Predict images.

        All images and results stay in memory. ``lspt-mm predict`` writes thousands one by one.

        Args:
            images: A path, a folder (searched recursively), a pattern such as ``'photos/*.jpg'``,
                a PIL image, an array (H, W, 3) uint8 RGB, or an iterable of these.

        Returns:
            One result for one path, PIL image or array; else a list of them, in the order given,
            those of a folder or a pattern sorted.

        Raises:
            InputError: For a missing path, a pattern without matches, a file that is not an
                image, or another array.
        """
        if isinstance(images, Mapping):  # iterating it gives its keys
            raise InputError(f'images: got {type(images).__name__}, expected a path, a folder, a '
                             'pattern, a PIL image, an array (H, W, 3), or a list of these')
        given = listed(images, pixels=True)
        names = names_for([
            one if isinstance(one, Path) else Path(f'image_{i}') for i, one in enumerate(given)
        ])
        arrays = list(map(_pixels, given))
        found = Results(map(self._result, names, arrays))
        single = given[0] is images or (
            isinstance(images, (str, os.PathLike)) and os.path.isfile(os.path.expanduser(images))
        )
        return found[0] if single else found

    def _result(self, name: str, image: np.ndarray) -> ImageResult:
        found = predict_image(self.model, self.pipeline(image))
        classes, palette = (self.model.dataset_meta[key] for key in ('classes', 'palette'))
        told = task_of(self.model.cfg).describe(found, classes, palette, top=len(classes))
        shares = {one.name: one.share for one in told.classes}
        return ImageResult(name, image, found.labels, found.scores, classes, palette, shares)

    @cached_property
    def pipeline(self) -> Callable:
        """Loads and transforms an image, a path or an array (H, W, 3) uint8 RGB, as in a test."""
        return image_pipeline(self.model.cfg)

    def export(
        self, path: Union[str, Path], size: Union[int, Tuple[int, int], None] = None,
        dynamic: bool = True,
    ) -> float:
        """Write the model as ``.onnx`` or ``.pt2`` and compare it with PyTorch.

        Args:
            path: File to write.
            size: Height and width it is traced with, or one number for both; None is the
                backbone's ``img_size``.
            dynamic: Whether batch, height and width may vary.

        Returns:
            float: The largest difference, in units of the largest logit.

        Raises:
            InputError: As in :func:`lspt_mm.deployment.export_model`.
        """
        from lspt_mm.deployment import export_model

        return export_model(self.model, path, size, dynamic).difference


#: Opens a trained run.
load = Run


def _pixels(image: Union[Path, PILImage.Image, np.ndarray]) -> np.ndarray:
    """(H, W, 3) uint8 RGB; arrays as they are, which the pipeline checks."""
    if isinstance(image, Path):
        return read_image(image)
    return to_rgb(image) if isinstance(image, PILImage.Image) else image


def _write(picture: PILImage.Image, path: Union[str, Path]) -> None:
    """Write a picture, and the folders above it."""
    path = Path(os.path.expanduser(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    except (OSError, ValueError) as error:  # ValueError: PIL's for another suffix
        raise InputError(
            f'{path}: cannot be written ({error}); expected a writable path, .png or .jpg'
        ) from error
