"""``lspt_upernet_scenes.py`` with a linear layer on the same four blocks instead of UPerNet.

What the frozen ViT holds, and what prompts add to it, without a head that learns features of its own.
"""
_base_ = './lspt_upernet_scenes.py'
model = dict(
    neck=dict(neck=None),
    decode_head=dict(
        _delete_=True,
        type='lspt_mm.LinearSegHead',
        in_channels=[128, 128, 128, 128],
        num_classes=16,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'decode_head.conv_seg': dict(lr_mult=0.01)}))
