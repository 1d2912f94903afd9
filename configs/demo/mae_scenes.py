"""MAE pre-training of the demo's ViT (width 128, 8 blocks, patches of 8) on unlabelled rendered scenes.

Run by ``projects/demo/demo.py``, which renders the scenes.
"""
_base_ = ['../_base_/default_runtime.py', '../_base_/models/mae_pretrain.py',
          '../_base_/datasets/unlabelled.py']
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=128, num_layers=8, num_heads=4, feedforward_channels=512),
        img_size=96,
        patch_size=8),
    neck=dict(
        num_patches=144,
        patch_size=8,
        embed_dim=128,
        decoder_embed_dim=64,
        decoder_depth=1,
        decoder_num_heads=4),
    head=dict(patch_size=8))
data_root = 'work_dirs/demo/scenes'
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        data_prefix='images/unlabelled',
        pipeline=[
            dict(type='lspt_mm.LoadImage'),
            dict(type='RandomResizedCrop', scale=96, crop_ratio_range=(0.4, 1.0)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs')
        ]))
max_iters = 300
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=40),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=40, end=max_iters, eta_min=1e-6)
]
train_cfg = dict(type='lspt_mm.ResumableIterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters))
