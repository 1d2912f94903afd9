"""Forward, loss and backward of every method and head on the ``meta`` device.

It has no values, only devices, shapes and types: a tensor that the code makes on the CPU meets one
of another device here, as it would on a GPU, and that is an error.
"""

import pytest
import torch
from method_table import IN_LOSSES, METHODS
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from torch import nn
from vit_oracles import ARCH, build

from lspt_mm.models import PromptedViT
from lspt_mm.models.standardize import Standardize
from lspt_mm.registry import PROMPTERS

WIDTH, CLASSES = ARCH['embed_dims'], 5
OUT_TYPES = ['raw', 'cls_token', 'featmap', 'avg_featmap', 'avg_tokens', 'avg_patches']
WITH_NONE = {'none': None, **METHODS}


def images(batch=2, height=24, width=16):
    return torch.empty(batch, 3, height, width, device='meta')


def on_meta(prompter, **kwargs):
    return build(prompter, dtype=torch.float32, **kwargs).to('meta').train()


def backward(loss, module):
    assert loss.device.type == 'meta'
    loss.backward()
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad and n not in IN_LOSSES}
    assert trained
    for name, parameter in trained.items():
        assert parameter.grad is not None and parameter.grad.device.type == 'meta', name


def test_the_table_has_every_registered_method():
    assert {cfg['type'] for cfg in METHODS.values()} == set(PROMPTERS.module_dict)


def test_a_tensor_on_the_wrong_device_is_an_error():
    class Wrong(nn.Module):
        def forward(self, x):
            return x + torch.ones(x.shape[-1])

    with pytest.raises(RuntimeError, match='device'):
        Wrong()(torch.empty(2, 3, device='meta'))


def methods_and_out_types():
    """Each method with one out_type, and each out_type with LSPT; their product is slow."""
    for i, name in enumerate(WITH_NONE):
        for out_type in OUT_TYPES:
            quick = name == 'lspt' or out_type == OUT_TYPES[i % len(OUT_TYPES)]
            yield pytest.param(name, out_type, marks=() if quick else pytest.mark.slow)


# At another size than img_size, so that position embeddings are resized. Activation checkpointing
# asks the device for its random state, which this one has not.
@pytest.mark.parametrize(('name', 'out_type'), methods_and_out_types())
def test_methods(name, out_type):
    cfg = WITH_NONE[name] and dict(WITH_NONE[name], dropout=0.1)
    tune = 'full' if cfg is None else 'prompts'
    model = on_meta(cfg, out_type=out_type, out_indices=[1, -1], tune=tune, drop_path_rate=0.1)
    if out_type == 'avg_featmap' and cfg is None:
        model.out_indices = [ARCH['num_layers'] - 1]
    backward(sum(out.sum() for out in model(images())), model)
    with torch.no_grad():
        model.eval().fuse()
        assert all(out.device.type == 'meta' for out in model(images()))


def test_registers():
    model = on_meta(METHODS['lspt'], out_type='raw', num_registers=2)
    backward(model(images())[0].sum(), model)


# ---- heads ------------------------------------------------------------------------------------

SEGMENTATION = {
    'UPerHead': dict(in_channels=[WIDTH] * 4, in_index=[0, 1, 2, 3], pool_scales=(1, 2)),
    'FCNHead': dict(in_channels=WIDTH, in_index=2, num_convs=1, concat_input=False),
    'SegformerHead': dict(in_channels=[WIDTH] * 4, in_index=[0, 1, 2, 3]),
    'LinearSegHead': dict(in_channels=[WIDTH] * 4, channels=None),
    'SETRUPHead': dict(in_channels=WIDTH, in_index=3, num_convs=1, up_scale=2, kernel_size=3),
}
LOSSES = {
    'plain': dict(type='CrossEntropyLoss'),
    'pixels that count': dict(type='CrossEntropyLoss', avg_non_ignore=True),
    'class weights': dict(type='CrossEntropyLoss', class_weight=[0.5, 1, 2, 0.1, 3.0]),
}


@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('head', SEGMENTATION)
def test_segmentation_heads(head, loss):
    pytest.importorskip('mmseg')
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample

    init_default_scope('mmseg')
    cfg = dict(type=f'lspt_mm.{head}', channels=8, num_classes=CLASSES, dropout_ratio=0.1,
               norm_cfg=dict(type='BN'), align_corners=False, loss_decode=LOSSES[loss])
    cfg = {k: v for k, v in {**cfg, **SEGMENTATION[head]}.items() if v is not None}
    vit = PromptedViT(dict(ARCH, num_layers=4), img_size=64, patch_size=8, out_type='featmap',
                      out_indices=[0, 1, 2, 3], prompter=METHODS['lspt'])
    model = nn.ModuleDict({'vit': vit, 'head': MODELS.build(cfg)}).to('meta').train()
    labels = torch.empty(2, 1, 64, 64, dtype=torch.long, device='meta')
    samples = [SegDataSample(gt_sem_seg=PixelData(data=one)) for one in labels]
    losses = model['head'].loss(model['vit'](images(2, 64, 64)), samples, {})
    backward(sum(v for k, v in losses.items() if 'loss' in k), model)


def test_every_segmentation_head_is_here():
    pytest.importorskip('mmseg')
    from lspt_mm.models import heads

    ours = {n for n, v in vars(heads).items() if getattr(v, '__module__', '') == heads.__name__}
    assert {n for n in ours if n.endswith('Head')} == set(SEGMENTATION)


@pytest.mark.parametrize('standardised', [False, True])
def test_a_linear_classification_head(standardised):
    from mmpretrain.registry import MODELS
    from mmpretrain.structures import DataSample

    init_default_scope('mmpretrain')
    head = MODELS.build(dict(type='LinearClsHead', in_channels=WIDTH, num_classes=CLASSES,
                             loss=dict(type='CrossEntropyLoss')))
    neck = Standardize([WIDTH]) if standardised else nn.Identity()
    model = nn.ModuleDict({'vit': on_meta(METHODS['lspt']), 'neck': neck, 'head': head})
    model = model.to('meta').train()
    labels = torch.empty(2, 1, dtype=torch.long, device='meta')
    samples = [DataSample() for _ in labels]
    for sample, label in zip(samples, labels, strict=True):
        sample.set_data({'gt_label': label})
        sample.set_field(label, 'gt_label', dtype=torch.Tensor)
    backward(model['head'].loss(model['neck'](model['vit'](images())), samples)['loss'], model)
