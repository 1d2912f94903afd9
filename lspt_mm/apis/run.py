"""A trained run as one object: its metrics, its predictions, its export."""

import glob
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image as PILImage
from torch import nn

from lspt_mm.apis.model import init_model
from lspt_mm.apis.predict import image_pipeline, names_for, predict_image
from lspt_mm.apis.testing import build_test_runner
from lspt_mm.config.load import apply_common_options, read_config
from lspt_mm.engine.hooks.class_scores_hook import TEST, VALIDATION
from lspt_mm.engine.runner import run
from lspt_mm.engine.work_dir import find_config_and_checkpoint
from lspt_mm.errors import InputError
from lspt_mm.tasks import task_of
from lspt_mm.utils.atomic_io import read_json
from lspt_mm.utils.cli import any_image_size
from lspt_mm.utils.images import list_images, read_image, to_rgb
from lspt_mm.utils.overlay import label_image, overlay

#: A path, a folder, a pattern such as ``'photos/*.jpg'``, a PIL image, an array (H, W, 3) uint8
#: RGB, or a list of them.
Images = Union[str, Path, PILImage.Image, np.ndarray, Sequence[Any]]
_PARTS = ('test', 'val')


class ImageResult(NamedTuple):
    """A model's result for one image.

    Attributes:
        name: Of the image's file without suffix, or ``image_N``.
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) class numbers of a segmentation, (1,) of a classification.
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

    def save(self, path: Union[str, Path]) -> None:
        """Write the image of a segmentation, with the classes over it and a legend.

        Raises:
            InputError: For a classification, which has no picture.
        """
        self._check_dense()
        _parent(path)
        overlay(self.image, self.labels, self.classes, self.palette).save(path)

    def save_mask(self, path: Union[str, Path]) -> None:
        """Write the class numbers of a segmentation as a PNG that shows the classes' colours."""
        self._check_dense()
        if Path(path).suffix.lower() != '.png':
            raise InputError(f'{path}: expected a name that ends in .png, as masks must not change')
        _parent(path)
        label_image(self.labels, self.palette).save(path)

    def _check_dense(self) -> None:
        if self.labels.ndim != 2:
            raise InputError(
                'a classification has no picture to save; its classes are in shares'
            )


class Results(List[ImageResult]):
    """Results of several images."""

    def save(self, folder: Union[str, Path]) -> None:
        """Write each image's picture, ``NAME.jpg``, into a folder."""
        for result in self:
            result.save(Path(folder) / f'{result.name}.jpg')


class Run:
    """A trained run, opened from its work dir.

    Args:
        folder: Its work dir.
        device: Device of :attr:`model`; None: a GPU if there is one. :meth:`test` takes a GPU
            if there is one.
        pretrained: File of the ViT's weights, instead of the one that the run names.

    Raises:
        InputError: If there is no config or checkpoint in it.
    """

    def __init__(
        self,
        folder: Union[str, Path],
        device: Optional[str] = None,
        pretrained: Optional[str] = None,
    ):
        self.folder = Path(folder).expanduser()
        self.config, self.checkpoint = find_config_and_checkpoint(self.folder)
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
        """The last validation's ``metric``, its ``value`` in per cent, ``classes`` by name.

        Raises:
            InputError: If the run has not validated.
        """
        path = self.folder / VALIDATION
        if not path.is_file():
            raise InputError(f'{path} is not there: the run has not validated yet')
        return read_json(path)

    @any_image_size()
    def test(self) -> Dict[str, Any]:
        """Test the chosen run on the test images; returns the same keys as :attr:`metrics`.

        Raises:
            InputError: If the data have no test images.
        """
        cfg = read_config(self.config)
        apply_common_options(cfg, None, None)
        folder = self.folder / 'test'  # the run's own config stays as it is
        cfg.work_dir, cfg.launcher = str(folder), 'none'
        test, val = (dict(cfg.get(f'{part}_dataloader') or {}).get('dataset') for part in _PARTS)
        if test is None or test == val:
            raise InputError(f'{self.folder}: its data have no test images; see Run.metrics')
        runner = build_test_runner(cfg, self.checkpoint, self._pretrained)
        run(runner, runner.test)
        return read_json(folder / TEST)

    @any_image_size()
    def predict(self, images: Images) -> Union[ImageResult, Results]:
        """Predict images: one result for one image, else a list of them.

        All images and results stay in memory. ``lspt-mm predict`` writes thousands one by one.

        Raises:
            InputError: For a missing path, a pattern without matches, or a file that is not an
                image.
        """
        found = [self._result(name, image) for name, image in _named(images)]
        single = isinstance(images, (np.ndarray, PILImage.Image)) or (
            isinstance(images, (str, Path)) and Path(images).expanduser().is_file()
        )
        return found[0] if single else Results(found)

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
        self, path: Union[str, Path], size: Optional[Tuple[int, int]] = None, dynamic: bool = True
    ) -> float:
        """Write the model as ``.onnx`` or ``.pt2`` and compare it with PyTorch.

        Args:
            path: File to write.
            size: Height and width it is traced with; None is the backbone's ``img_size``.
            dynamic: Whether batch, height and width may vary.

        Returns:
            float: The largest difference, in units of the largest logit.

        Raises:
            InputError: As in :func:`lspt_mm.deployment.export_model`.
        """
        from lspt_mm.deployment import export_model

        return export_model(self.model, Path(path).expanduser(), size, dynamic).difference


def load(
    folder: Union[str, Path], device: Optional[str] = None, pretrained: Optional[str] = None
) -> Run:
    """Open the run in a folder; arguments as in :class:`Run`."""
    return Run(folder, device, pretrained)


def _named(images: Images) -> List[Tuple[str, np.ndarray]]:
    """Names and arrays of the given images."""
    given = list(images) if isinstance(images, (list, tuple)) else [images]
    if not given:
        raise InputError('predict: no images')
    names: List[Path] = []
    arrays: List[np.ndarray] = []
    for image in given:
        if isinstance(image, (str, Path)):
            paths = _expanded(os.path.expanduser(image))
            names += paths
            arrays += map(read_image, paths)
        elif isinstance(image, (PILImage.Image, np.ndarray)):
            names.append(Path(f'image_{len(names)}'))
            arrays.append(to_rgb(image) if isinstance(image, PILImage.Image) else image)
        else:
            raise InputError(
                f'predict: {type(image).__name__}, expected paths, PIL images or arrays'
            )
    return list(zip(names_for(names), arrays, strict=True))


def _expanded(text: str) -> List[Path]:
    """The files that a path, a folder or a pattern stands for."""
    if Path(text).is_dir():
        found = list_images(Path(text)).images
    elif Path(text).exists() or not glob.has_magic(text):
        found = [Path(text)]
    else:
        found = sorted(map(Path, glob.glob(text, recursive=True)))
    if not found:
        raise InputError(f'{text}: no image in this folder, or no file matches')
    return found


def _parent(path: Union[str, Path]) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
