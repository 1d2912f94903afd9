"""``lspt_upernet_scenes.py`` with a linear head on the last block instead of UPerNet.

What the frozen ViT holds, and what prompts add to it, without a head that learns features of its own.
"""
_base_ = './lspt_upernet_scenes.py'
model = dict(
    neck=None,
    auxiliary_head=None,
    decode_head=dict(
        _delete_=True,
        type='lspt_mm.FCNHead',
        num_convs=0,
        concat_input=False,
        in_channels=128,
        channels=128,
        in_index=3,
        dropout_ratio=0.1,
        num_classes=16,
        norm_cfg=dict(type='BN', requires_grad=True),
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)))
