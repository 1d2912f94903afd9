"""LSPT + UPerNet on CamVid's 11 classes, with a ViT of width 192 and 12 blocks.

    python tools/train.py configs/camvid/lspt_upernet_camvid.py --data-root DIR --pretrained FILE --amp

The ViT is pre-trained by ``configs/pretrain/mae_vit_tiny_160px.py``. To choose hyper-parameters, train on a part of the
training frames and validate on the rest; ``validation`` is for the final report:

    ... --cfg-options train_dataloader.dataset.split=training-fit val_dataloader.dataset.split=training-select
"""
_base_ = [
    '../_base_/models/lspt_upernet.py',
    '../_base_/prompters/lspt.py',
    '../_base_/datasets/camvid.py',
    '../_base_/segmentation_runtime.py',
    '../_base_/schedules/schedule_160k.py',
]
crop_size = (256, 256)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        arch='deit-tiny',
        img_size=crop_size,
        pretrained='work_dirs/mae_vit_tiny_160px/iter_1500.pth',
        prompter=_base_.pop('method').camvid),
    neck=dict(embed_dim=192),
    decode_head=dict(in_channels=[192, 192, 192, 192], channels=64, num_classes=11),
    auxiliary_head=dict(in_channels=192, channels=32, num_classes=11),
    test_cfg=dict(_delete_=True, mode='whole'))
max_iters = 600
# Both learning rates were chosen on training-select, for this config and for frozen_upernet_camvid.py alike
# (docs/results.md).
optim_wrapper = dict(
    optimizer=dict(lr=1e-2),
    paramwise_cfg=dict(custom_keys=dict(prompter=dict(lr_mult=1.))))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=50, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=max_iters, max_keep_ckpts=1))
pretrained_help = '''\
The ViT of this run is made by: python tools/train.py configs/pretrain/mae_vit_tiny_160px.py --data-root POOL,
with any folder of images as POOL.'''
