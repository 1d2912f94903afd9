"""The loss in chunks against enlarging all logits at once, and mmseg's heads with either."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models import decode_heads
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.nn import functional as F

import lspt_mm.models  # noqa: F401
from lspt_mm.models.heads import ChunkedLossMixin
from lspt_mm.models.ops.chunked_cross_entropy import upsampled_cross_entropy
from projects.benchmark.measure import peak_of_tensors

IGNORED = 255
CLASSES = 5
NAMES = ('UPerHead', 'FCNHead', 'SegformerHead', 'SETRUPHead')


def labels_of(batch, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (batch, height, width), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = IGNORED
    return labels


def at_once(logits, labels, align_corners, weight):
    """The definition: enlarge, then compare."""
    whole = F.interpolate(
        logits.float(), labels.shape[1:], mode='bilinear', align_corners=align_corners
    )
    loss = F.cross_entropy(whole, labels, weight, ignore_index=IGNORED, reduction='sum')
    counted = labels != IGNORED
    correct = (whole.argmax(1) == labels)[counted].sum()
    of_each = torch.ones(CLASSES) if weight is None else weight
    return loss, of_each[labels[counted]].sum(), counted.sum(), correct


@pytest.mark.parametrize('align_corners', [False, True])
@pytest.mark.parametrize('weight', [None, torch.tensor([0.5, 1, 2, 0, 3.0])])
@pytest.mark.parametrize(
    ('small', 'large'), [((6, 8), (24, 32)), ((5, 7), (23, 18)), ((9, 9), (4, 5)), ((1, 1), (3, 1))]
)
@pytest.mark.parametrize('chunk', [1, 700, None])
def test_loss_and_gradient_are_those_of_all_rows_at_once(
    align_corners, weight, small, large, chunk
):
    logits = torch.randn(2, CLASSES, *small, generator=torch.Generator().manual_seed(1)) * 3
    labels = labels_of(2, *large)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = upsampled_cross_entropy(ours, labels, IGNORED, align_corners, weight, chunk)
    expected = at_once(theirs, labels, align_corners, weight)
    torch.testing.assert_close(list(found), list(expected), check_dtype=False)
    # What follows multiplies the loss, a loss scale for one.
    (found.loss * 7).backward()
    (expected[0] * 7).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        again = upsampled_cross_entropy(logits, labels, IGNORED, align_corners, weight, chunk)
    assert torch.equal(again.loss, found.loss.detach()) and again.correct == found.correct


def test_nothing_as_large_as_the_image_is_kept_and_a_strip_at_a_time_is_made():
    classes, large = 50, 256
    logits = torch.randn(1, classes, large // 4, large // 4, requires_grad=True)
    labels = torch.randint(classes, (1, large, large))
    loss = upsampled_cross_entropy(logits, labels, chunk=1 << 17).loss
    assert sum(kept.numel() for kept in loss.grad_fn.saved_tensors) == logits.numel()
    full = 4 * classes * large * large
    peak = peak_of_tensors(lambda: upsampled_cross_entropy(logits, labels, chunk=1 << 17).loss)
    # The gradient at the head's size, some maps of one number a pixel, some chunks of half a MiB.
    assert peak < full / 2


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    logits = torch.randn(1, CLASSES, 4, 4).to(dtype).requires_grad_()
    labels = labels_of(1, 16, 16)
    with torch.autocast('cpu', torch.bfloat16):
        found = upsampled_cross_entropy(logits, labels, IGNORED)
    expected = at_once(logits.detach(), labels, False, None)
    assert found.loss.dtype == torch.float32
    torch.testing.assert_close(found.loss.detach(), expected[0])
    found.loss.backward()
    assert logits.grad.dtype == dtype


def test_a_label_outside_the_classes_is_an_error():
    with pytest.raises(IndexError, match='out of bounds'):
        upsampled_cross_entropy(torch.zeros(1, 3, 2, 2), torch.full((1, 4, 4), 3))


# ---- heads ------------------------------------------------------------------------------------


def head(kind, name, loss=None, **more):
    several = name in ('UPerHead', 'SegformerHead')
    cfg = dict(
        type=kind + name, in_channels=[8] * 4 if several else 8, channels=8, num_classes=CLASSES,
        in_index=[0, 1, 2, 3] if several else 0, norm_cfg=dict(type='BN'), dropout_ratio=0,
        loss_decode=loss or dict(type='CrossEntropyLoss', loss_weight=0.4), align_corners=False,
        **more,
    )
    if name == 'UPerHead':
        cfg['pool_scales'] = (1, 2)
    init_default_scope('mmseg')  # other tests of this process have left theirs
    torch.manual_seed(0)
    return MODELS.build(cfg).train()


def samples_of(labels):
    return [SegDataSample(gt_sem_seg=PixelData(data=one[None])) for one in labels]


LOSSES = {
    'mean over all pixels': dict(type='CrossEntropyLoss', loss_weight=0.4),
    'mean over pixels that count': dict(type='CrossEntropyLoss', avg_non_ignore=True),
    'class weights': dict(type='CrossEntropyLoss', class_weight=[0.5, 1, 2, 0.1, 3.0]),
    'two of the same name': [dict(type='CrossEntropyLoss'), dict(type='CrossEntropyLoss')],
    'two of two names': [
        dict(type='CrossEntropyLoss', loss_name='loss_a'),
        dict(type='CrossEntropyLoss', loss_name='loss_b', loss_weight=3.0),
    ],
    'with another loss': [dict(type='CrossEntropyLoss'), dict(type='DiceLoss')],
    'a sigmoid': dict(type='CrossEntropyLoss', use_sigmoid=True),
}


@pytest.mark.parametrize(
    ('name', 'loss'),
    [*((name, 'mean over all pixels') for name in NAMES), *(('FCNHead', key) for key in LOSSES)],
)
def test_heads_give_mmsegs_losses_and_gradients(name, loss):
    theirs, ours = head('', name, LOSSES[loss]), head('lspt_mm.', name, LOSSES[loss])
    assert isinstance(ours, getattr(decode_heads, name)) and isinstance(ours, ChunkedLossMixin)
    ours.load_state_dict(theirs.state_dict())
    maps = [torch.randn(2, 8, side, side) for side in (16, 8, 4, 2)]
    labels = labels_of(2, 61, 47)
    if loss == 'class weights':
        labels = labels.clamp(max=CLASSES - 1)  # OpenMMLab's own mmseg fails on pixels to ignore
    samples = samples_of(labels)
    expected, found = (h.loss(maps, samples, train_cfg={}) for h in (theirs, ours))
    assert list(found) == list(expected)
    for key in expected:
        torch.testing.assert_close(found[key], expected[key])
    for losses in (expected, found):
        sum(v.sum() for k, v in losses.items() if 'loss' in k).backward()
    for (key, left), right in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(right.grad, left.grad, rtol=1e-4, atol=1e-6, msg=key)


def test_a_sampler_of_pixels_is_mmsegs():
    sampler = dict(type='OHEMPixelSampler', thresh=0.7, min_kept=50)
    theirs, ours = (head(kind, 'FCNHead', sampler=sampler) for kind in ('', 'lspt_mm.'))
    ours.load_state_dict(theirs.state_dict())
    maps, samples = [torch.randn(2, 8, 8, 8)], samples_of(labels_of(2, 32, 32))
    expected, found = (h.loss(maps, samples, train_cfg={}) for h in (theirs, ours))
    assert found == expected


def test_images_without_a_pixel_that_counts():
    for loss in ('mean over all pixels', 'mean over pixels that count', 'class weights'):
        ours = head('lspt_mm.', 'FCNHead', LOSSES[loss])
        nothing = samples_of(torch.full((2, 32, 32), IGNORED))
        found = ours.loss([torch.randn(2, 8, 8, 8)], nothing, train_cfg={})
        assert found['loss_ce'] == 0
        found['loss_ce'].backward()
        assert all((p.grad == 0).all() for p in ours.parameters())
