"""The dice loss against mmseg's, on pixels that have a class."""

import pytest
import torch
from mmseg.models import losses as mmsegs

import lspt_mm  # noqa: F401
from lspt_mm.models.losses import DiceLoss

KINDS = [
    {}, dict(use_sigmoid=False), dict(naive_dice=True, loss_weight=3.0), dict(activate=False),
    dict(reduction='none', use_sigmoid=False),
]


def logits_and_labels(ignored=255):
    torch.manual_seed(0)
    logits, labels = torch.rand(2, 3, 8, 6), torch.randint(3, (2, 8, 6))
    labels[:, 5:] = ignored
    return logits.requires_grad_(), labels


@pytest.mark.parametrize('kind', KINDS, ids=str)
@pytest.mark.parametrize('ignored', [255, -100, 2])
def test_ignored_pixels_do_not_count(kind, ignored):
    logits, labels = logits_and_labels(ignored)
    labels[:, :5] %= 2
    found = DiceLoss(**kind)(logits, labels, ignore_index=ignored)
    # mmseg's on the image without those rows.
    expected = mmsegs.DiceLoss(**kind)(logits[:, :, :5], labels[:, :5])
    torch.testing.assert_close(found, expected)
    (slope,) = torch.autograd.grad(found.sum(), logits)
    assert (slope[:, :, 5:] == 0).all() and (slope[:, :, :5] != 0).any()
    (wanted,) = torch.autograd.grad(expected.sum(), logits)
    torch.testing.assert_close(slope, wanted)


def test_an_image_without_a_class_has_no_slope():
    logits, labels = logits_and_labels()
    labels[:] = 255
    (slope,) = torch.autograd.grad(DiceLoss()(logits, labels), logits)
    assert (slope == 0).all()
