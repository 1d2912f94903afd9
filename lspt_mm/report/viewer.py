"""Data of the page's image viewer, for its script."""

import base64
import io
from typing import Any, Dict, List, Optional

import numpy as np
from matplotlib import colormaps
from PIL import Image

from lspt_mm.report.results import Picture, RunResult, by_image
from lspt_mm.tasks import Prediction

#: Longest side of a picture in the page.
SIDE = 384


def viewer_data(results: List[RunResult]) -> Dict[str, Any]:
    """Images, labels and attention of all runs, as JSON may hold them.

    ``runs``: names, whether there are class token and prompts, heads; ``images``: name, pixels
    (a data URL), truth, and for every run its prediction and attention. Attention of one block is
    ``{h, w, peak, maps}``: base64 of heads + 1 maps of h*w bytes, the mean over heads first. Each
    goes from 0 to its largest value (255), which is ``peak`` times that of even attention.
    """
    shown = []
    for found in by_image([m.pictures for m in results]):
        first, owner = next((p, m) for p, m in zip(found, results, strict=True) if p is not None)
        shown.append({
            'name': first.name,
            'pixels': _jpeg(first.pixels),
            'truth': _label(first.truth, owner),
            'runs': [_of_run(p, m) for p, m in zip(found, results, strict=True)],
        })
    heads = [
        max((b.shape[0] for p in m.pictures for b in p.cls + p.prompts if b is not None), default=0)
        for m in results
    ]
    blocks = max((len(p.cls) for m in results for p in m.pictures), default=0)
    table = (255 * colormaps['inferno'](np.arange(256))[:, :3]).round().astype(np.uint8)
    return {
        'runs': [m.run.name for m in results],
        'heads': max(heads, default=0),
        'blocks': blocks,
        'images': shown,
        'colours': base64.b64encode(table.tobytes()).decode(),
    }


def _of_run(picture: Optional[Picture], result: RunResult) -> Optional[dict]:
    if picture is None:
        return None
    return {
        'predicted': _label(picture.predicted, result),
        'cls': [_maps(one) for one in picture.cls],
        'prompts': [_maps(one) for one in picture.prompts],
    }


def _maps(heads: Optional[np.ndarray]) -> Optional[dict]:
    """Maps (H, h, w) as bytes, the mean first."""
    if heads is None:
        return None
    maps = np.concatenate([heads.mean(0, keepdims=True), heads]).astype(np.float64)
    flat = maps.reshape(len(maps), -1)
    peak = flat.max(1)
    even = flat.mean(1)
    scaled = np.round(255 * flat / np.maximum(peak, 1e-30)[:, None]).astype(np.uint8)
    return {
        'h': heads.shape[1],
        'w': heads.shape[2],
        'peak': [round(float(value), 2) for value in peak / np.maximum(even, 1e-30)],
        'maps': base64.b64encode(scaled.tobytes()).decode(),
    }


def _label(label: Optional[Prediction], result: RunResult) -> Optional[dict]:
    """A prediction or truth: a picture with its classes, or the classes as text."""
    if label is None:
        return None
    found = result.run.task.describe(label, result.classes, result.palette)
    if found.picture is None:
        named = [one.name + ('' if one.share is None else f' ({100 * one.share:.0f} %)')
                 for one in found.classes]
        return {'text': ', '.join(named) or 'no class'}
    return {
        'picture': _png(found.picture),
        'classes': [[one.name, '#%02x%02x%02x' % one.colour] for one in sorted(found.classes)],
    }


def _smaller(pixels: np.ndarray, filter_: int) -> Image.Image:
    image = Image.fromarray(pixels)
    factor = SIDE / max(image.size)
    if factor >= 1:
        return image
    return image.resize([max(1, round(factor * side)) for side in image.size], filter_)


def _jpeg(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    _smaller(pixels, Image.Resampling.LANCZOS).save(buffer, 'JPEG', quality=88)
    return 'data:image/jpeg;base64,' + base64.b64encode(buffer.getvalue()).decode()


def _png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    image = _smaller(pixels, Image.Resampling.NEAREST)
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, 'PNG', optimize=True)
    return 'data:image/png;base64,' + base64.b64encode(buffer.getvalue()).decode()
