"""The demo: LSPT + UPerNet on rendered scenes, with the small ViT of ``mae_scenes.py``, frozen.

Run by ``projects/demo/demo.py``. The prompter's options and both learning rates were chosen on the scenes' validation
split; see docs/results.md.
"""
_base_ = [
    '../_base_/models/lspt_upernet.py',
    '../_base_/prompters/lspt.py',
    '../_base_/datasets/scenes.py',
    '../_base_/segmentation_runtime.py',
    '../_base_/schedules/schedule_160k.py',
]
crop_size = (96, 96)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=128, num_layers=8, num_heads=4, feedforward_channels=512),
        img_size=crop_size,
        patch_size=8,
        out_indices=(1, 3, 5, 7),
        pretrained='work_dirs/demo/mae/iter_300.pth',
        prompter=_base_.pop('method').demo),
    neck=dict(
        _delete_=True, type='lspt_mm.Standardize', in_channels=[128, 128, 128, 128],
        neck=dict(_base_.model.neck, embed_dim=128)),
    decode_head=dict(
        in_channels=[128, 128, 128, 128],
        channels=48,
        num_classes=16,
        linear_in_channels=[128, 128, 128, 128]),
    auxiliary_head=None,
    test_cfg=dict(_delete_=True, mode='whole'))
max_iters = 250
optim_wrapper = dict(
    optimizer=dict(lr=1e-2),
    paramwise_cfg=dict(custom_keys={
        'prompter': dict(lr_mult=0.1),
        'decode_head.linear': dict(lr_mult=0.01),
    }))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=30),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=30, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    linear_baseline=dict(start=True),
    logger=dict(interval=25), checkpoint=dict(interval=max_iters, max_keep_ckpts=1))
pretrained_help = 'The ViT of this run is made by projects/demo/demo.py (make demo).'
