"""Predictions of a folder of images as files: masks and overlays, or a table of classes."""

import csv
from collections import Counter
from pathlib import Path
from typing import Callable, Dict, Iterable, List, Sequence, Tuple

import numpy as np
from PIL import Image

from lspt_mm.analysis.visualization import colours_of, overlay
from lspt_mm.errors import InputError
from lspt_mm.utils.images import IMAGE_SUFFIXES, check_image, find_images

Told = Callable[[Iterable, int], Iterable]


def images_of(sources: Sequence[Path]) -> List[Path]:
    """The images that files and folders stand for, each decoded once to see that it can be.

    Raises:
        InputError: Naming all that are missing, unreadable or truncated, and folders without one.
    """
    found: List[Path] = []
    problems = []
    for source in sources:
        if not source.is_dir():
            found.append(source)
            continue
        inside = find_images(source)
        if not inside:
            problems.append(f'{source}: no image in it ({", ".join(IMAGE_SUFFIXES)})')
        found += inside
    for path in found:
        try:
            check_image(path)
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError('\n  '.join([f'{len(problems)} inputs cannot be used:', *problems]))
    return found


def names_for(images: Sequence[Path]) -> List[str]:
    """Names of outputs: the images' without suffix, and with it where two would be one."""
    stems = Counter(path.stem for path in images)
    names = [path.stem if stems[path.stem] == 1 else path.name for path in images]
    seen: Counter = Counter()
    unique = []
    for name in names:  # equal names from several folders
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f'{name}_{seen[name]}')
    return unique


def predict_images(
    inferencer,
    images: Sequence[Path],
    out: Path,
    top: int = 1,
    told: Told = lambda items, total: items,
) -> List[str]:
    """Predict images one by one and write what is found below ``out``.

    Segmentation: ``masks/NAME.png``, numbers of classes from 0 with the classes' colours as the
    palette, ``overlays/NAME.jpg``, the image with the classes over it and a legend, and
    ``predictions.csv`` with the columns image, mask, overlay.
    Classification: ``predictions.csv`` with the columns image, rank, class, probability.

    Args:
        inferencer: mmseg's or mmpretrain's, see :func:`lspt_mm.apis.inferencer_of`.
        images: Paths of readable images.
        out: Folder, made if absent.
        top: Classification: how many classes are listed for an image.
        told: Passes on an iterable of so many items, showing progress.

    Returns:
        A line for each image.
    """
    out.mkdir(parents=True, exist_ok=True)
    if type(inferencer).__name__ == 'MMSegInferencer':
        return _segment(inferencer, images, out, told)
    return _classify(inferencer, images, out, top, told)


def _segment(inferencer, images, out: Path, told: Told) -> List[str]:
    meta = inferencer.model.dataset_meta
    classes = list(meta['classes'])
    palette = np.asarray(colours_of(len(classes), meta.get('palette')), np.uint8)
    for folder in ('masks', 'overlays'):
        (out / folder).mkdir(exist_ok=True)
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    lines, rows = [], []
    for path, name in told(list(zip(images, names_for(images), strict=True)), len(images)):
        sample = inferencer(str(path), return_datasamples=True)
        mask = sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
        picture = Image.fromarray(mask)
        picture.putpalette(table.ravel().tolist())
        picture.save(out / 'masks' / f'{name}.png')
        overlay(read_rgb(path), mask, classes, palette).save(
            out / 'overlays' / f'{name}.jpg', quality=92, subsampling=0
        )
        lines.append(f'{path}: {_shares(mask, classes)}')
        rows.append((path, f'masks/{name}.png', f'overlays/{name}.jpg'))
    # Which is whose, where folders have images of the same name.
    _write_table(out, ('image', 'mask', 'overlay'), rows)
    return lines


def _write_table(out: Path, head: Sequence[str], rows: Sequence[tuple]) -> None:
    with open(out / 'predictions.csv', 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def read_rgb(path: Path) -> np.ndarray:
    """An image (H, W, 3) uint8 RGB as the model sees it, turned by its EXIF data."""
    import mmcv

    return mmcv.imread(str(path), channel_order='rgb')


def _shares(mask: np.ndarray, classes: Sequence[str], shown: int = 4) -> str:
    counts = np.bincount(mask.ravel(), minlength=len(classes))
    order = [int(i) for i in counts.argsort()[::-1] if counts[i]]
    parts = [f'{classes[i]} {100 * counts[i] / mask.size:.1f}%' for i in order[:shown]]
    return ', '.join(parts) + (', ...' if len(order) > shown else '')


def _classify(inferencer, images, out: Path, top: int, told: Told) -> List[str]:
    rows: List[Tuple] = []
    lines = []
    for path in told(images, len(images)):
        (found,) = inferencer(str(path))
        scores = found['pred_scores']
        names = inferencer.classes or [str(i) for i in range(len(scores))]
        best = [int(i) for i in np.argsort(-scores)[:top]]
        rows += [(path, rank, names[i], f'{scores[i]:.6f}') for rank, i in enumerate(best, 1)]
        lines.append(f'{path}: ' + ', '.join(f'{names[i]} {scores[i]:.3f}' for i in best))
    _write_table(out, ('image', 'rank', 'class', 'probability'), rows)
    return lines


def found_in(out: Path) -> Dict[str, int]:
    """What has been written: kind to number of files."""
    kinds = {'masks': 'masks/*.png', 'overlays': 'overlays/*.jpg', 'tables': 'predictions.csv'}
    counts = {kind: len(list(out.glob(pattern))) for kind, pattern in kinds.items()}
    return {kind: count for kind, count in counts.items() if count}
