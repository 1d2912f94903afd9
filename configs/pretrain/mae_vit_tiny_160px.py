"""MAE pre-training of the ViT of the CamVid runs (width 192, 12 blocks) on any folder of images.

    python tools/train.py configs/pretrain/mae_vit_tiny_160px.py --data-root data/pool --amp
"""
_base_ = ['../_base_/default_runtime.py', '../_base_/models/mae_pretrain.py',
          '../_base_/datasets/unlabelled.py']
model = dict(
    backbone=dict(arch='deit-tiny', img_size=160),
    neck=dict(
        num_patches=100,
        embed_dim=192,
        decoder_embed_dim=128,
        decoder_depth=2,
        decoder_num_heads=4))
data_root = 'data/pool'
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        pipeline=[
            dict(type='lspt_mm.LoadImage'),
            dict(type='RandomResizedCrop', scale=160, crop_ratio_range=(0.4, 1.0)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs')
        ]))
# MAE's rule is lr = 1.5e-4 * batch / 256. This run is hundreds of times shorter than the paper's
# 1600 epochs, so its learning rate is higher (ours).
optim_wrapper = dict(optimizer=dict(lr=1e-3))
max_iters = 1500
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=max_iters, eta_min=1e-6)
]
train_cfg = dict(type='lspt_mm.ResumableIterBasedTrainLoop', max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(interval=500))
