"""MAE pre-training of the small ViT of the classification runs: width 192, 12 blocks, 64 pixels, patches of 8.

The data are any folder of images. Training takes about 40 minutes on two cores without a GPU.

    python tools/train.py configs/pretrain/mae_vit_tiny_64px.py --data-root data/pool64
"""
_base_ = './mae_vit_tiny_160px.py'
model = dict(
    backbone=dict(img_size=64, patch_size=8),
    neck=dict(num_patches=64, patch_size=8),
    head=dict(patch_size=8))
data_root = 'data/pool64'
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        pipeline=[
            dict(type='lspt_mm.LoadImage'),
            dict(type='RandomResizedCrop', scale=64, crop_ratio_range=(0.2, 1.0)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs')
        ]))
max_iters = 4000
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=200),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=200, end=max_iters, eta_min=1e-6)
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
