"""``lspt_upernet_ade20k.py`` with MAE ViT-L/16: 24 blocks of width 1024."""
_base_ = '../lspt_upernet_ade20k.py'
model = dict(
    backbone=dict(
        arch='large',
        out_indices=(7, 11, 15, 23),
        pretrained='pretrained/mae_pretrain_vit_large.pth'),
    neck=dict(embed_dim=1024),
    decode_head=dict(in_channels=[1024, 1024, 1024, 1024]),
    auxiliary_head=dict(in_channels=1024))
pretrained_help = '''\
mae_pretrain_vit_large.pth is the official MAE ViT-L/16 (encoder only), from
https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_large.pth (CC BY-NC 4.0).'''
