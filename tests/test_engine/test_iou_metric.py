"""The mean IoU by strips against mmseg's of the whole image."""

import pytest
import torch
from mmseg.evaluation import metrics

from lspt_mm.engine import iou_metric
from lspt_mm.engine.iou_metric import STRIP, IoUMetric
from lspt_mm.registry import METRICS
from projects.benchmark.measure import peak_of_tensors


def pair(size, classes, ignored, dtype=torch.uint8):
    """Predicted and true classes of an image, some pixels ignored."""
    generator = torch.Generator().manual_seed(0)
    label, predicted = torch.randint(classes, (2, *size), generator=generator, dtype=dtype)
    label[torch.rand(size, generator=generator) < 0.2] = ignored
    return predicted, label


@pytest.mark.parametrize(
    ('size', 'classes', 'ignored', 'dtype'),
    [
        ((37, 53), 5, 255, torch.uint8),
        ((37, 53), 300, 999, torch.int64),
        ((1, 700), 2, 0, torch.uint8),
        ((10, 10), 4, 255, torch.uint8),
    ],
    ids=str,
)
def test_all_results_equal_mmsegs(size, classes, ignored, dtype, monkeypatch):
    monkeypatch.setattr(iou_metric, 'STRIP', 100)  # 37 x 53 is no multiple of it
    predicted, label = pair(size, classes, ignored, dtype)
    found = []
    for kind in ('mmseg.IoUMetric', 'lspt_mm.IoUMetric'):
        metric = METRICS.build(dict(
            type=kind, iou_metrics=['mIoU', 'mDice', 'mFscore'], ignore_index=ignored
        ))
        metric.dataset_meta = {'classes': [f'class {i}' for i in range(classes)]}
        for flipped in (predicted, predicted.flip(0)):
            metric.process({}, [{
                'pred_sem_seg': {'data': flipped[None]}, 'gt_sem_seg': {'data': label[None]}
            }])
        counts = [[part.tolist() for part in image] for image in metric.results]
        found.append((counts, metric.evaluate(2)))
    assert found[0] == found[1]
    assert sum(found[1][0][0][3]) == (label != ignored).sum()


def test_bytes_do_not_grow_with_the_image():
    images = [pair(size, 150, 255) for size in ((1500, 1500), (3000, 1500))]
    assert images[0][0].numel() > 2 * STRIP
    arguments = 150, 255
    ours = [peak_of_tensors(lambda i=i: IoUMetric.intersect_and_union(*i, *arguments))
            for i in images]
    # Of a pixel that counts: its place (8), the mask, and its two classes (1 each).
    assert max(ours) < 12 * STRIP
    theirs = peak_of_tensors(
        lambda: metrics.IoUMetric.intersect_and_union(*images[1], *arguments)
    )
    assert theirs > 3 * max(ours)
