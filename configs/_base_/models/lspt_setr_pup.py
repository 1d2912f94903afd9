"""A frozen ViT-B/16 tuned by LSPT and SETR-PUP, with auxiliary heads at blocks 5 and 9 (GaPT's table).

The heads are those of MMSegmentation's SETR-PUP on ADE20K; each normalises its input, so the ViT's
final norm is left out.
"""
_base_ = './lspt_upernet.py'
norm_cfg = dict(type='SyncBN', requires_grad=True)
head = dict(
    type='lspt_mm.SETRUPHead',
    in_channels=768,
    channels=256,
    num_classes=150,
    dropout_ratio=0,
    norm_cfg=norm_cfg,
    kernel_size=3,
    align_corners=False)
auxiliary = dict(
    head,
    num_convs=2,
    loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4))
model = dict(
    backbone=dict(out_indices=(4, 8, 11)),
    neck=None,
    decode_head=dict(
        _delete_=True,
        **head,
        in_index=2,
        num_convs=4,
        up_scale=2,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=[dict(auxiliary, in_index=0), dict(auxiliary, in_index=1)])
