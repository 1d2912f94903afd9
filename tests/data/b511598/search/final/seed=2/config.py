cell = dict(
    arch='deit-tiny',
    batch_size=2,
    benchmark='imagefolder',
    dropout=None,
    epochs=1,
    gate_init=None,
    head_weight_decay=None,
    img_size=32,
    lr=0.01,
    method='vpt',
    name='imagefolder/vpt_mae_prepared',
    num_tokens=2,
    official=True,
    optimizer='SGD',
    patch_size=8,
    pretraining='mae',
    rank=None,
    task='prepared',
    warmup=0,
    weight_decay=0.0)
classes = [
    'ant',
    'bee',
    'cat',
]
custom_hooks = [
    dict(type='lspt_mm.PreparePromptsHook'),
    dict(type='lspt_mm.TrainableReportHook'),
    dict(allow_random=True, type='lspt_mm.BackboneWeightsHook'),
]
data_help = 'Layout: FOLDER with train.json, val.json, test.json and the images, from\ntools/dataset_converters/prepare.py imagefolder --from FOLDER_OF_IMAGES --to FOLDER'
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
data_root = 'prepared'
default_hooks = dict(
    checkpoint=dict(
        by_epoch=True,
        content='full',
        interval=1,
        max_keep_ckpts=2,
        save_best=None,
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
        arch='deit-tiny',
        img_size=32,
        out_type='avg_tokens',
        patch_size=8,
        pretrained=None,
        prompter=dict(num_tokens=2, type='VPT'),
        tune='prompts',
        type='lspt_mm.PromptedViT'),
    head=dict(
        in_channels=192,
        init_cfg=dict(
            bias=-4.59511985, layer='Linear', std=0.01, type='Normal'),
        loss=dict(loss_weight=1.0, type='CrossEntropyLoss'),
        num_classes=3,
        type='LinearClsHead'),
    type='ImageClassifier')
optim_wrapper = dict(
    constructor='lspt_mm.TrainableOptimWrapperConstructor',
    optimizer=dict(lr=0.01, momentum=0.9, type='SGD', weight_decay=0.0),
    type='OptimWrapper')
param_scheduler = [
    dict(begin=0, by_epoch=True, end=1, eta_min=0.0, type='CosineAnnealingLR'),
]
pretrained_help = 'pretrained/mae_pretrain_vit_base.pth is the official MAE ViT-B/16 (encoder only), from https://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth (CC BY-NC 4.0).'
randomness = dict(seed=2)
resume = False
test_cfg = dict()
test_dataloader = dict(
    batch_size=2,
    dataset=dict(
        ann_file='test.json',
        data_prefix='',
        data_root='prepared',
        metainfo=dict(classes=[
            'ant',
            'bee',
            'cat',
        ]),
        num_classes=3,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                backend='pillow',
                edge='short',
                interpolation='bilinear',
                scale=37,
                type='ResizeEdge'),
            dict(crop_size=32, type='CenterCrop'),
            dict(type='PackInputs'),
        ],
        type='lspt_mm.ListedImages'),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(topk=(1, ), type='Accuracy')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        backend='pillow',
        edge='short',
        interpolation='bilinear',
        scale=37,
        type='ResizeEdge'),
    dict(crop_size=32, type='CenterCrop'),
    dict(type='PackInputs'),
]
train_cfg = dict(
    max_epochs=1, type='lspt_mm.ResumableEpochBasedTrainLoop', val_interval=5)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        datasets=[
            dict(
                ann_file='train.json',
                data_prefix='',
                data_root='prepared',
                metainfo=dict(classes=[
                    'ant',
                    'bee',
                    'cat',
                ]),
                num_classes=3,
                pipeline=[
                    dict(type='lspt_mm.LoadImage'),
                    dict(
                        backend='pillow',
                        edge='short',
                        interpolation='bilinear',
                        scale=37,
                        type='ResizeEdge'),
                    dict(crop_size=32, type='RandomCrop'),
                    dict(prob=0.5, type='RandomFlip'),
                    dict(type='PackInputs'),
                ],
                type='lspt_mm.ListedImages'),
            dict(
                ann_file='val.json',
                data_prefix='',
                data_root='prepared',
                metainfo=dict(classes=[
                    'ant',
                    'bee',
                    'cat',
                ]),
                num_classes=3,
                pipeline=[
                    dict(type='lspt_mm.LoadImage'),
                    dict(
                        backend='pillow',
                        edge='short',
                        interpolation='bilinear',
                        scale=37,
                        type='ResizeEdge'),
                    dict(crop_size=32, type='RandomCrop'),
                    dict(prob=0.5, type='RandomFlip'),
                    dict(type='PackInputs'),
                ],
                type='lspt_mm.ListedImages'),
        ],
        type='ConcatDataset'),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=True, type='DefaultSampler'))
train_pipeline = [
    dict(type='lspt_mm.LoadImage'),
    dict(
        backend='pillow',
        edge='short',
        interpolation='bilinear',
        scale=37,
        type='ResizeEdge'),
    dict(crop_size=32, type='RandomCrop'),
    dict(prob=0.5, type='RandomFlip'),
    dict(type='PackInputs'),
]
val_cfg = None
val_dataloader = None
val_evaluator = None
vis_backends = [
    dict(type='lspt_mm.PatientLocalVisBackend'),
]
visualizer = dict(
    type='UniversalVisualizer',
    vis_backends=[
        dict(type='lspt_mm.PatientLocalVisBackend'),
    ])
work_dir = 'work_dirs/imagefolder/vpt_mae_prepared'
