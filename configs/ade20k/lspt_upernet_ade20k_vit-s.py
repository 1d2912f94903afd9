"""``lspt_upernet_ade20k.py`` with MoCo v3 ViT-S/16: 12 blocks of width 384.

There is no official MAE ViT-S. MoCo v3's has 12 heads, timm's ViT-S has 6: the tensors have the same
shapes, but compute another function.
"""
_base_ = '../lspt_upernet_ade20k.py'
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=384, num_layers=12, num_heads=12, feedforward_channels=1536),
        pretrained='pretrained/vit-s-300ep.pth.tar'),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384))
pretrained_help = '''\
vit-s-300ep.pth.tar is the official MoCo v3 ViT-S/16 after 300 epochs, from
https://dl.fbaipublicfiles.com/moco-v3/vit-s-300ep/vit-s-300ep.pth.tar (CC BY-NC 4.0).'''
