custom_hooks = [
    dict(type='lspt_mm.BackboneWeightsHook'),
    dict(type='lspt_mm.PreparePromptsHook'),
    dict(type='lspt_mm.TrainableReportHook'),
]
data_help = 'Layout: FOLDER/train/CLASS/*.jpg and FOLDER/val/CLASS/*.jpg, the same classes in both.'
data_preprocessor = dict(
    mean=[
        123.675,
        116.28,
        103.53,
    ],
    std=[
        58.395,
        57.12,
        57.375,
    ],
    to_rgb=True)
data_root = 'data/images'
default_hooks = dict(
    checkpoint=dict(
        by_epoch=True,
        content='prompts',
        interval=2,
        max_keep_ckpts=2,
        type='lspt_mm.PromptCheckpointHook'),
    finite=dict(type='lspt_mm.FiniteLossHook'),
    logger=dict(interval=50, log_metric_by_epoch=True, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    run_log=dict(interval=50, type='lspt_mm.RunLogHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    stop=dict(type='lspt_mm.StopOnSignalHook'),
    timer=dict(type='IterTimerHook'),
    visualization=dict(enable=False, type='VisualizationHook'))
default_scope = 'mmpretrain'
env_cfg = dict(
    cudnn_benchmark=True,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
launcher = 'none'
load_from = None
log_level = 'INFO'
log_processor = dict(by_epoch=True)
model = dict(
    backbone=dict(
        arch=dict(
            embed_dims=16, feedforward_channels=32, num_heads=2, num_layers=4),
        img_size=32,
        out_type='avg_tokens',
        patch_size=8,
        pretrained='tiny_vit.pth',
        prompter=dict(num_tokens=3, type='GatedPrompt'),
        type='lspt_mm.PromptedViT'),
    head=dict(
        in_channels=16,
        init_cfg=dict(
            bias=-4.59511985, layer='Linear', std=0.01, type='Normal'),
        loss=dict(loss_weight=1.0, type='CrossEntropyLoss'),
        num_classes=3,
        type='LinearClsHead'),
    type='ImageClassifier')
optim_wrapper = dict(
    constructor='lspt_mm.TrainableOptimWrapperConstructor',
    optimizer=dict(lr=0.1, momentum=0.9, type='SGD', weight_decay=0.0),
    type='OptimWrapper')
param_scheduler = [
    dict(begin=0, by_epoch=True, end=10, start_factor=0.001, type='LinearLR'),
    dict(begin=10, by_epoch=True, end=100, type='CosineAnnealingLR'),
]
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(crop_size=32, type='CenterCrop'),
    dict(type='PackInputs'),
]
pretrained_help = 'mae_pretrain_vit_base.pth is the official MAE ViT-B/16 (encoder only), from\nhttps://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth (CC BY-NC 4.0).'
randomness = dict(seed=1)
resume = False
test_cfg = dict()
test_dataloader = dict(
    batch_size=2,
    dataset=dict(
        data_prefix='val',
        data_root='images',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(crop_size=32, type='CenterCrop'),
            dict(type='PackInputs'),
        ],
        type='CustomDataset'),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(topk=(1, ), type='Accuracy')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        backend='pillow',
        edge='short',
        interpolation='bicubic',
        scale=256,
        type='ResizeEdge'),
    dict(crop_size=224, type='CenterCrop'),
    dict(type='PackInputs'),
]
train_cfg = dict(
    max_epochs=2, type='lspt_mm.ResumableEpochBasedTrainLoop', val_interval=2)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        data_prefix='train',
        data_root='images',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(crop_size=32, type='CenterCrop'),
            dict(type='PackInputs'),
        ],
        type='CustomDataset'),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=True, type='DefaultSampler'))
train_pipeline = [
    dict(type='lspt_mm.LoadImage'),
    dict(
        backend='pillow',
        edge='short',
        interpolation='bicubic',
        scale=256,
        type='ResizeEdge'),
    dict(crop_size=224, type='RandomCrop'),
    dict(prob=0.5, type='RandomFlip'),
    dict(type='PackInputs'),
]
val_cfg = dict()
val_dataloader = dict(
    batch_size=2,
    dataset=dict(
        data_prefix='val',
        data_root='images',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(crop_size=32, type='CenterCrop'),
            dict(type='PackInputs'),
        ],
        type='CustomDataset'),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(topk=(1, ), type='Accuracy')
vis_backends = [
    dict(type='lspt_mm.PatientLocalVisBackend'),
]
visualizer = dict(
    type='UniversalVisualizer',
    vis_backends=[
        dict(type='lspt_mm.PatientLocalVisBackend'),
    ])
work_dir = 'classification'
