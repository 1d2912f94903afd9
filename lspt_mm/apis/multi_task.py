"""Several tuned models on one image: one ViT in memory, its first blocks run once for all."""

import os
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, Optional, Tuple, Union

from torch import nn

from lspt_mm.apis.model import init_model
from lspt_mm.apis.predict import Image, image_pipeline, predict_image
from lspt_mm.errors import InputError
from lspt_mm.models.prompt_sets import PromptSets
from lspt_mm.models.prompted_backbone import PromptedBackbone
from lspt_mm.models.shared_blocks import SharedBlocks
from lspt_mm.tasks import Prediction

#: A model of :func:`init_model`, a run's folder, or a config and a checkpoint.
Source = Union[nn.Module, str, Path, Tuple[Union[str, Path], Union[str, Path]]]


class MultiTask:
    """Tuned models of segmentation and classification on one frozen ViT.

    ::

        tasks = MultiTask({
            'roads': 'runs/roads',                                      # its last checkpoint
            'scene': ('runs/scene/transfer.py', 'runs/scene/epoch_20.pth')})
        found = tasks('photo.jpg')
        found['roads'].labels       # (H, W), class numbers
        found['scene'].scores       # (K,), probabilities

    Equal tensors are held once. Models that get the same pixels share their first blocks: those
    before the first prompts (``start_block``), LoRA or other tensors of their own run once.
    Predictions are the same as those of the separate models.

    Args:
        models: By name; they are for inference only from then on.
        device: For models that are loaded here; None: a GPU if there is one.
        pretrained: File of the ViT's weights, instead of the configs', for prompt-only checkpoints.

    Raises:
        InputError: As :func:`init_model`, and if there is no model.

    Attributes:
        models (dict): By name, mmseg's or mmpretrain's.
        shared_blocks (dict): By name, how many blocks a model has in common with another.
    """

    def __init__(
        self,
        models: Mapping[str, Source],
        device: Optional[str] = None,
        pretrained: Union[str, Path, None] = None,
    ):
        if not isinstance(models, Mapping) or not models:
            raise InputError('MultiTask: expected a dict of at least one model, by name')
        self.models: Dict[str, nn.Module] = {}
        sets = PromptSets()
        for name, source in models.items():
            is_path = isinstance(source, (str, os.PathLike))
            if is_path and os.path.isdir(os.path.expanduser(source)):
                source = (source, None)
            if isinstance(source, (tuple, list)) and len(source) == 2:
                source = init_model(*source, pretrained=pretrained, device=device)
            if not isinstance(getattr(source, 'backbone', None), PromptedBackbone):
                raise InputError(
                    f"MultiTask: {name}: expected a model of init_model, a run's folder, or a "
                    f'config and a checkpoint, but got '
                    f'{str(source) if is_path else type(source).__name__}'
                )
            sets.add(name, source.backbone)
            source.backbone.fuse()
            self.models[name] = source
        self._shared = SharedBlocks(sets.vits)
        self.shared_blocks = dict(self._shared.depths)
        self._pipelines = {name: image_pipeline(model.cfg) for name, model in self.models.items()}

    def __call__(self, image: Image) -> Dict[str, Prediction]:
        """Predict an image with each model: its path, or an array (H, W, 3) uint8 RGB."""
        try:
            found = {}
            for name, model in self.models.items():
                with self._continuing(name, model.backbone):
                    found[name] = predict_image(model, self._pipelines[name](image))
            return found
        finally:
            self._shared.clear()

    @contextmanager
    def _continuing(self, name: str, vit: nn.Module) -> Iterator[None]:
        """Make the ViT continue from the output of the shared blocks."""
        forward = vit.forward
        vit.forward = lambda img: forward(self._shared.early(name, img))
        try:
            yield
        finally:
            del vit.forward
