"""Features of images as arrays."""

import os
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmpretrain.models import ClsDataPreprocessor

from lspt_mm.apis.predict import Paths, images_of
from lspt_mm.checkpoints.records import fingerprint
from lspt_mm.errors import InputError
from lspt_mm.probing.features import cached
from lspt_mm.recipes.pipelines import central_crop
from lspt_mm.recipes.vits import vit_of
from lspt_mm.registry import MODELS
from lspt_mm.utils.checks import check_int
from lspt_mm.utils.cli import any_image_size, check_device


class ImageFeatures(NamedTuple):
    """Features of N images, float32; memory-mapped and read-only: ``np.array(x)`` is a copy.

    Attributes:
        paths: The images, in the order given; those of a folder or a pattern sorted.
        cls_token: (N, D); None if the ViT has none.
        avg_patches: (N, D), the mean of the patches.
        patches: (N, h, w, D); None unless asked for.
    """

    paths: Sequence[Path]
    cls_token: Optional[np.ndarray]
    avg_patches: np.ndarray
    patches: Optional[np.ndarray]


@any_image_size()
def features(
    backbone: Union[str, Path],
    images: Paths,
    img_size: int = 224,
    block: int = -1,
    patches: bool = False,
    batch_size: int = 32,
    device: Optional[str] = None,
    model: Optional[str] = None,
) -> ImageFeatures:
    """Extract features of images with a frozen ViT; a second call reads them from the cache.

    Images are resized (shorter side 8/7 of ``img_size``), centre-cropped and normalised, as in
    the tests of ``configs/imagefolder``.

    Args:
        backbone: The ViT's weights: ``timm:NAME`` or a file.
        images: A path, a folder (searched recursively), a pattern such as ``'photos/*.jpg'``, or
            an iterable of these, such as a column of a table, whose order is kept.
        img_size: Side of the crops in pixels, a multiple of the patch size.
        block: Block whose output is used, counted from 0 or, negative, from the end; the last
            one's passes the final norm.
        patches: Whether to return the features of each patch as well: h * w times the size.
        batch_size: How many images at once.
        device: None: a GPU if there is one.
        model: timm's name of the ViT in a file whose tensors do not identify it (CLIP, SigLIP).

    Returns:
        ImageFeatures: A row for each image, in the order of its ``paths``.

    Raises:
        InputError: If an image or the weights cannot be read.
        ValueError: For a size or block that the ViT does not take.
    """
    if not isinstance(backbone, (str, os.PathLike)):
        raise InputError(
            f'backbone: got {type(backbone).__name__}, expected timm:NAME or a file; for a model, '
            'save its state_dict() with torch.save and pass the file'
        )
    check_int('img_size', img_size, 1)
    check_int('batch_size', batch_size, 1)
    if type(block) is not int:
        raise ValueError(f'block={block!r}: expected an integer')
    found = vit_of(os.path.expanduser(backbone), model=model)
    patch = found.patch_size
    if img_size % patch:
        raise ValueError(f'img_size={img_size}: expected a multiple of the patch size {patch}')
    vit = MODELS.build(dict(
        found.backbone, img_size=img_size, out_type='raw', out_indices=block,
        pretrained=found.source,
    ))
    vit.init_weights()
    paths = images_of(images)
    init_default_scope('mmpretrain')
    pipeline, place = Compose(central_crop(img_size)), check_device(device)

    def compute() -> Dict[str, np.ndarray]:
        normalise = ClsDataPreprocessor(found.mean, found.std, to_rgb=True).to(place)
        vit.to(place).eval()
        parts = []
        for start in range(0, len(paths), batch_size):
            chosen = [str(path) for path in paths[start : start + batch_size]]
            inputs = [pipeline({'img_path': path})['inputs'] for path in chosen]
            with torch.no_grad():
                (x,) = vit(normalise({'inputs': inputs}, False)['inputs'])
            first = vit.num_extra_tokens
            part = {'avg_patches': x[:, first:].mean(1)}
            if first:
                part['cls_token'] = x[:, 0]
            if patches:
                part['patches'] = x[:, first:].unflatten(1, vit.patch_resolution)
            parts.append({name: tensor.cpu().numpy() for name, tensor in part.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    settings = ['images', fingerprint(vit.own_tensors()), vit.settings(), img_size, block, patches,
                found.mean, found.std]
    arrays = cached(settings, ({'img_path': str(path)} for path in paths), compute)
    return ImageFeatures(paths, *(arrays.get(name) for name in ImageFeatures._fields[1:]))
