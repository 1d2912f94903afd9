"""A prompted ViT-B/16 under mmpretrain's ``ImageClassifier`` with a linear head."""
_base_ = []  # otherwise MMEngine takes a file with imports for a lazy config
from lspt_mm.utils import images

data_preprocessor = dict(
    mean=list(images.IMAGENET_MEAN), std=list(images.IMAGENET_STD), to_rgb=True)
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='lspt_mm.PromptedViT',
        arch='base',
        img_size=224,
        patch_size=16,
        out_type='avg_tokens',
        pretrained='pretrained/mae_pretrain_vit_base.pth'),
    head=dict(
        type='LinearClsHead',
        in_channels=768,
        num_classes=200,
        # VPT's and GaPT's: weights N(0, 2 / K), the bias at -log(99).
        init_cfg=dict(type='Kaiming', layer='Linear', mode='fan_out', bias=-4.59511985),
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
pretrained_help = '''\
mae_pretrain_vit_base.pth is the official MAE ViT-B/16 (encoder only), from
https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth (CC BY-NC 4.0).'''
