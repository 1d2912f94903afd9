"""A frozen ViT-B/16 tuned by LSPT with a light head: MultiLevelNeck and SegFormer's all-MLP head.

At 512 pixels UPerNet at 512 channels costs several times the frozen ViT-B. Here the four maps are reduced to 256
channels before upsampling, and one 1x1 convolution joins them at a quarter of the image's size
(arXiv 2105.15203). Protocol, blocks and auxiliary head are those of ``lspt_upernet.py``.
"""
_base_ = './lspt_upernet.py'
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    neck=dict(
        _delete_=True,
        type='MultiLevelNeck',
        in_channels=[768, 768, 768, 768],
        out_channels=256,
        scales=[4, 2, 1, 0.5],
        norm_cfg=norm_cfg),
    decode_head=dict(
        _delete_=True,
        type='lspt_mm.SegformerHead',
        in_channels=[256, 256, 256, 256],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=dict(in_channels=256))
