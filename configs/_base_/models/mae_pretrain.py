"""MAE pre-training (arXiv 2111.06377) with MMPretrain's own classes, sized by the inheriting config.

``PromptedViT(pretrained=...)`` reads the saved encoder without conversion.
"""
_base_ = []  # otherwise MMEngine takes a file with imports for a lazy config
from lspt_mm.utils import images

default_scope = 'mmpretrain'
data_preprocessor = dict(
    type='SelfSupDataPreprocessor',
    mean=list(images.IMAGENET_MEAN),
    std=list(images.IMAGENET_STD),
    to_rgb=True)
model = dict(
    type='MAE',
    backbone=dict(type='MAEViT', arch='base', img_size=224, patch_size=16, mask_ratio=0.75),
    neck=dict(
        type='MAEPretrainDecoder',
        num_patches=196,
        patch_size=16,
        in_chans=3,
        embed_dim=768,
        decoder_embed_dim=512,
        decoder_depth=8,
        decoder_num_heads=16),
    head=dict(
        type='MAEPretrainHead',
        norm_pix=True,
        patch_size=16,
        loss=dict(type='PixelReconstructionLoss', criterion='L2')),
    init_cfg=[
        dict(type='Xavier', layer='Linear', distribution='uniform'),
        dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0)
    ])
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.,
        bias_decay_mult=0.,
        custom_keys=dict(
            pos_embed=dict(decay_mult=0.), mask_token=dict(decay_mult=0.),
            cls_token=dict(decay_mult=0.))))
