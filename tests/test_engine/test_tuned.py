"""What is asked of a tuned model: its classes, and how it takes its images."""

import pytest
import torch
from mmengine.model import ImgDataPreprocessor
from mmpretrain.models import ClsDataPreprocessor
from mmseg.models import SegDataPreProcessor
from torch import nn

from lspt_mm.apis.model import class_names, takes_rgb


def model_of(count, trained_on=None, where='head'):
    model = nn.Module()
    head = nn.Module()
    if count is not None:
        head.num_classes = count
    setattr(model, where, head)
    model.dataset_meta = trained_on
    return model


@pytest.mark.parametrize('where', ['head', 'decode_head'])
def test_classes_are_those_given_then_those_trained_on_then_numbers(where):
    model = model_of(2, {'classes': ('x', 'y')}, where)
    assert class_names(model, ['a', 'b']) == ['a', 'b']
    assert class_names(model) == class_names(model, []) == ['x', 'y']
    assert class_names(model, ['a', 'b', 'c']) == ['x', 'y']  # of another data set
    assert class_names(model_of(2, None, where), ['a']) == ['class 0', 'class 1']
    assert class_names(model_of(None, {'classes': [1, 2, 3]}, where)) == ['1', '2', '3']


@pytest.mark.parametrize(
    ('preprocessor', 'key'),
    [
        (ImgDataPreprocessor, 'bgr_to_rgb'),
        (SegDataPreProcessor, 'bgr_to_rgb'),
        (ClsDataPreprocessor, 'to_rgb'),
    ],
)
def test_who_turns_bgr_to_rgb(preprocessor, key):
    norm = dict(mean=[1, 2, 3], std=[1, 1, 1])
    assert takes_rgb(preprocessor(**norm, **{key: True}))
    assert not takes_rgb(preprocessor(**norm))
    # As the flag says: the first channel comes out last.
    if preprocessor is ImgDataPreprocessor:
        bgr = torch.zeros(3, 4, 4)
        bgr[0] = 9
        found = preprocessor(mean=[0] * 3, std=[1] * 3, bgr_to_rgb=True)({'inputs': [bgr]})
        assert found['inputs'][0][2].eq(9).all()
