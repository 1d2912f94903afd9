"""Several tuned models in one process, which share equal ViTs."""

import ctypes
import gc
import logging
import platform
import threading
import time
from typing import Dict, Iterable, List, Optional, Tuple

import numpy as np
import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor, nn
from torch.nn import functional as F

from lspt_mm.analysis import attention_maps
from lspt_mm.apis import init_model
from lspt_mm.apis.predict import check_size, image_pipeline
from lspt_mm.errors import InputError
from lspt_mm.models import PromptSets
from lspt_mm.models.prompt_sets import bytes_held
from lspt_mm.models.prompted_backbone import PromptedBackbone
from lspt_mm.tasks import Task, task_of
from lspt_mm.utils.cli import check_device
from projects.demo_app.results import Attention, BlockMaps, ImageResult
from projects.demo_app.sources import Source

logger = logging.getLogger('lspt_mm.demo_app')

#: Maximum number of patches for attention at the model's own size. Larger inputs are reduced, as
#: attention is of the whole image, even where predictions come from windows.
MOST_PATCHES = 4096
#: Likeliest classes that a classifier names.
TOP = 5


class ServedModels:
    """Models by name, loaded once; switching between them reads nothing.

    Models with bit-identical ViTs hold its tensors once (:class:`~lspt_mm.models.PromptSets`).
    Predictions are the same as those of the separate models. May be called from several threads:
    pipelines run in the callers' threads, and the models one call at a time. This bounds the
    memory and costs no speed, as one call uses the whole device.

    Args:
        sources: Models to load, with different names.
        device: Device, such as 'cpu' or 'cuda:0'; None: a GPU if there is one.
        pretrained: File of the ViT's weights, instead of the configs', for prompt-only checkpoints.

    Raises:
        InputError: If a model cannot be built, its checkpoint does not fit, or it has no
            :class:`~lspt_mm.models.prompted_backbone.PromptedBackbone`.
    """

    def __init__(
        self, sources: Iterable[Source], device: Optional[str] = 'cpu',
        pretrained: Optional[str] = None,
    ):
        self.device = check_device(device)
        self._served: Dict[str, _Served] = {}
        self._sets = PromptSets()
        self._one_at_a_time = threading.Lock()
        for source in sources:
            self._add(source, pretrained)
            _release_freed_memory()

    def _add(self, source: Source, pretrained: Optional[str]) -> None:
        if source.name in self._served:
            raise InputError(f'two models are called {source.name!r}')
        start = time.perf_counter()
        model = init_model(source.config, source.checkpoint, pretrained, str(self.device))
        model.requires_grad_(False)
        saved = self._sets.add(source.name, model.backbone)
        model.backbone.fuse()
        self._served[source.name] = _Served(model)
        logger.info(
            'loaded %s from %s in %.1f s (%.1f MB of its ViT were there already)',
            source.name, source.checkpoint, time.perf_counter() - start, saved / 1e6,
        )

    @property
    def names(self) -> List[str]:
        """Names of the models, in the order given."""
        return list(self._served)

    def task(self, name: str) -> Task:
        """The task of a model."""
        return self._of(name).task

    def heads(self, name: str) -> int:
        """Heads of a model's attention."""
        return self._of(name).vit.num_heads

    def module(self, name: str) -> nn.Module:
        """mmseg's or mmpretrain's own model, for reading: its ViT's tensors are shared."""
        return self._of(name).model

    def bytes_held(self) -> Tuple[int, int]:
        """Bytes of all models' tensors as they are held, and as they would be without sharing."""
        modules = [served.model for served in self._served.values()]
        return bytes_held(modules), sum(bytes_held([module]) for module in modules)

    def predict(self, name: str, image: np.ndarray) -> ImageResult:
        """Prediction and attention of one model.

        Args:
            name: One of :attr:`names`.
            image: (H, W, 3) uint8 RGB.

        Raises:
            InputError: For an unknown name, or an image that is too small for the model.
        """
        served = self._of(name)
        batch, seen = served.batch(image)
        with self._one_at_a_time, torch.no_grad():
            start = time.perf_counter()
            data = served.model.data_preprocessor(batch, False)
            sample = served.model.predict(data['inputs'], data['data_samples'])[0]
            prediction = served.task.prediction(sample)
            middle = time.perf_counter()
            attention = _attention(served.vit, data['inputs'], seen)
            end = time.perf_counter()
        logger.info('predicted with %s: %.2f s', name, end - start)
        meta = served.model.dataset_meta
        description = served.task.describe(prediction, meta['classes'], meta['palette'], TOP)
        labels = prediction.labels.astype(np.uint16)  # sessions keep them
        return ImageResult(name, labels, description, attention, (middle - start, end - middle))

    def _of(self, name: str) -> '_Served':
        if name not in self._served:
            raise InputError(f'no model {name!r}; there are {", ".join(self._served)}')
        return self._served[name]


class _Served:
    """One model and its test pipeline."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.vit: PromptedBackbone = model.backbone
        self.task = task_of(model.cfg)
        self.pipeline = image_pipeline(model.cfg)

    def batch(self, image: np.ndarray) -> Tuple[dict, np.ndarray]:
        """A batch of one image for the data preprocessor, and that image as RGB."""
        packed = self.pipeline(image)
        check_size(self.model, packed)
        seen = packed['inputs']  # (3, H, W), BGR
        seen = seen.flip(0).permute(1, 2, 0).clamp(0, 255).byte().numpy()
        return pseudo_collate([packed]), seen


def _attention(vit: PromptedBackbone, inputs: Tensor, seen: np.ndarray) -> Attention:
    """Attention over one image (1, 3, H, W) as the data preprocessor gives it."""
    patch = vit.patch_size
    height, width = inputs.shape[-2:]
    scale = (MOST_PATCHES * patch[0] * patch[1] / (height * width)) ** 0.5
    cell = (float(patch[0]), float(patch[1]))
    if scale < 1:
        smaller = [
            max(1, int(n * scale) // p) * p for n, p in zip((height, width), patch, strict=True)
        ]
        inputs = F.interpolate(inputs, smaller, mode='bilinear', antialias=True)
        cell = (cell[0] * height / smaller[0], cell[1] * width / smaller[1])
    blocks = []
    for block in attention_maps(vit, inputs):
        cls = None if block.cls is None else block.cls[0].float().cpu().numpy()
        prompts = block.prompts
        prompts = None if prompts is None else prompts[0].float().mean(0).cpu().numpy()
        blocks.append(BlockMaps(block.number, cls, prompts))
    return Attention(seen, cell, blocks)


def _release_freed_memory() -> None:
    """Return to the system what the C library keeps of checkpoints that were read."""
    gc.collect()
    if platform.libc_ver()[0] == 'glibc':
        ctypes.CDLL(None).malloc_trim(0)
