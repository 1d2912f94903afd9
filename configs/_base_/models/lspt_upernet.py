"""A frozen ViT-B/16 tuned by LSPT, Feature2Pyramid, UPerHead and an FCN auxiliary head.

Blocks 4, 6, 8 and 12 (``out_indices`` counts from 0) give the four maps of the pyramid, as in MAE's
own segmentation configs. ``final_norm=False``: all four come directly from the residual stream,
since a norm on the last one alone would make it differ from the other three (ours).
"""
_base_ = '../prompters/lspt.py'
from lspt_mm.utils import images

norm_cfg = dict(type='SyncBN', requires_grad=True)
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=list(images.IMAGENET_MEAN),
    std=list(images.IMAGENET_STD),
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(512, 512))
model = dict(
    type='lspt_mm.EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='lspt_mm.PromptedViT',
        arch='base',
        img_size=512,
        patch_size=16,
        out_indices=(3, 5, 7, 11),
        out_type='featmap',
        final_norm=False,
        pretrained='pretrained/mae_pretrain_vit_base.pth',
        tune='prompts',
        prompter=_base_.pop('method').prompter),
    neck=dict(
        type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(
        type='lspt_mm.UPerHead',
        in_channels=[768, 768, 768, 768],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    auxiliary_head=dict(
        type='lspt_mm.FCNHead',
        in_channels=768,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4)),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)))
pretrained_help = '''\
mae_pretrain_vit_base.pth is the official MAE ViT-B/16 (encoder only), from
https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth (CC BY-NC 4.0).'''
