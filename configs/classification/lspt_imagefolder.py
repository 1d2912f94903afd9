"""LSPT on any folder of images with one sub-folder per class, by mmpretrain's ``ImageClassifier``.

    python tools/train.py configs/classification/lspt_imagefolder.py --data-root DIR \\
        --cfg-options model.head.num_classes=200

``DIR/train/CLASS/*.jpg`` is trained on, ``DIR/val/CLASS/*.jpg`` validated. The protocol is GaPT's for MAE
(arXiv 2306.05067), which LSPT's paper reuses: mean of prompts and patches, the pre-trained frozen final norm,
a linear head; for MoCo v3 it is the class token behind that norm (``model.backbone.out_type=cls_token``). SGD,
10 warm-up of 100 epochs, no weight decay. The learning rate depends on the data: theirs range from 0.05 to 0.5.
"""
_base_ = '../_base_/default_runtime.py'
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='lspt_mm.PromptedViT',
        arch='base',
        img_size=224,
        patch_size=16,
        out_type='avg_tokens',
        pretrained='pretrained/mae_pretrain_vit_base.pth',
        prompter=dict(type='LSPT', num_tokens=100, dropout=0.1)),
    head=dict(
        type='LinearClsHead',
        in_channels=768,
        num_classes=200,
        # The bias starts at -log(99), as GaPT's does.
        init_cfg=dict(type='Normal', layer='Linear', std=0.01, bias=-4.59511985),
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0)))
pretrained_help = '''\
mae_pretrain_vit_base.pth is the official MAE ViT-B/16 (encoder only), from
https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth (CC BY-NC 4.0).'''
data_preprocessor = dict(
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
data_root = 'data/images'
data_help = '''\
Layout: FOLDER/train/CLASS/*.jpg and FOLDER/val/CLASS/*.jpg, the same classes in both.'''
train_pipeline = [
    dict(type='lspt_mm.LoadImage'),
    dict(type='ResizeEdge', scale=256, edge='short', interpolation='bicubic', backend='pillow'),
    dict(type='RandomCrop', crop_size=224),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs')
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short', interpolation='bicubic', backend='pillow'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs')
]
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='train', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CustomDataset', data_root=data_root, data_prefix='val', pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1, ))
test_evaluator = val_evaluator
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='lspt_mm.TrainableOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=10),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=10, end=100)
]
train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=5)
val_cfg = dict()
test_cfg = dict()
log_processor = dict(by_epoch=True)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=10),
    visualization=dict(type='VisualizationHook', enable=False))
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
