"""Image pipelines of training and test, by the transforms of mmpretrain and mmseg."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, Sequence, Tuple

from lspt_mm.recipes.methods import get_method
from lspt_mm.utils.images import BACKEND

if TYPE_CHECKING:
    from lspt_mm.recipes.experiment import Experiment

_LOAD = dict(type='lspt_mm.LoadImage')  # names a broken file
# The name that inferencers look for.
LOAD_TEST = dict(type='LoadImageFromFile', backend_args=dict(backend=BACKEND))
_PACK = dict(type='PackInputs')


def squares(exp: Experiment) -> Tuple[List[dict], List[dict]]:
    """Pipelines of training and test: resized to a square, nothing augmented (VTAB-1K)."""
    resize = dict(
        type='Resize', scale=(exp.img_size, exp.img_size), interpolation='bilinear',
        backend='pillow',
    )
    return [_LOAD, resize, _PACK], [LOAD_TEST, resize, _PACK]


def crops(exp: Experiment) -> Tuple[List[dict], List[dict]]:
    """Pipelines of training and test: crops and flips, and central crops (FGVC).

    VPT's and GaPT's: shorter side 256, crop of 224. BPT's and SPT's, with the papers' heads:
    training crops of random size and bicubic interpolation. Other sizes in proportion.
    """
    bicubic = exp.head == 'paper' and get_method(exp.method).recipe in ('bpt', 'spt')
    interpolation = dict(interpolation='bicubic' if bicubic else 'bilinear', backend='pillow')
    test = central_crop(exp.img_size, **interpolation)
    if bicubic:
        cut = [dict(type='RandomResizedCrop', scale=exp.img_size, **interpolation)]
    else:
        cut = [test[1], dict(type='RandomCrop', crop_size=exp.img_size)]
    return [_LOAD, *cut, dict(type='RandomFlip', prob=0.5), _PACK], test


def central_crop(img_size: int, interpolation: str = 'bilinear', backend: str = 'pillow') -> list:
    """The test's pipeline of :func:`crops`: the middle of the image, 7/8 of its shorter side."""
    scale = round(img_size * 256 / 224)
    how = dict(interpolation=interpolation, backend=backend)
    resize = dict(type='ResizeEdge', scale=scale, edge='short', **how)
    return [LOAD_TEST, resize, dict(type='CenterCrop', crop_size=img_size), _PACK]


def scales_and_flips(resizes: Sequence[dict], labels: dict, flip: bool = True) -> List[dict]:
    """The pipeline of test-time augmentation in segmentation.

    Args:
        resizes: A transform for each scale.
        labels: The transform that loads the labels, which keep their size.
        flip: Whether each scale is flipped as well.
    """
    flips = [dict(type='RandomFlip', prob=prob) for prob in ((0.0, 1.0) if flip else (0.0,))]
    steps = [[*resizes], flips, [labels], [dict(type='PackSegInputs')]]
    return [LOAD_TEST, dict(type='TestTimeAug', transforms=steps)]
