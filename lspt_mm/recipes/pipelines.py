"""Transforms of the benchmarks' images, by mmpretrain's classes."""

from typing import List, Tuple

from lspt_mm.recipes.experiment import Cell
from lspt_mm.recipes.methods import get_method

_LOAD = dict(type='lspt_mm.LoadImage')  # names a broken file
_LOAD_TEST = dict(type='LoadImageFromFile')  # the name that inferencers look for
_PACK = dict(type='PackInputs')


def squares(cell: Cell) -> Tuple[List[dict], List[dict]]:
    """Pipelines of training and test: resized to a square, nothing augmented (VTAB-1K)."""
    resize = dict(
        type='Resize', scale=(cell.img_size, cell.img_size), interpolation='bilinear',
        backend='pillow',
    )  # fmt: skip
    return [_LOAD, resize, _PACK], [_LOAD_TEST, resize, _PACK]


def crops(cell: Cell) -> Tuple[List[dict], List[dict]]:
    """Pipelines of training and test: crops and flips, and central crops (FGVC).

    VPT's and GaPT's: shorter side 256, crop of 224. BPT's: training crops of random size and
    bicubic interpolation. Other sizes in proportion.
    """
    bicubic = get_method(cell.method).recipe == 'bpt'
    interpolation = dict(interpolation='bicubic' if bicubic else 'bilinear', backend='pillow')
    resize = dict(
        type='ResizeEdge', scale=round(cell.img_size * 256 / 224), edge='short', **interpolation
    )
    if bicubic:
        cut = [dict(type='RandomResizedCrop', scale=cell.img_size, **interpolation)]
    else:
        cut = [resize, dict(type='RandomCrop', crop_size=cell.img_size)]
    flip = dict(type='RandomFlip', prob=0.5)
    centre = dict(type='CenterCrop', crop_size=cell.img_size)
    return [_LOAD, *cut, flip, _PACK], [_LOAD_TEST, resize, centre, _PACK]
