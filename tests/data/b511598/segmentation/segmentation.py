crop = (
    32,
    32,
)
crop_size = (
    512,
    512,
)
custom_hooks = [
    dict(type='lspt_mm.BackboneWeightsHook'),
    dict(type='lspt_mm.PreparePromptsHook'),
    dict(type='lspt_mm.TrainableReportHook'),
]
data_help = "ADE20K's layout: ADEChallengeData2016/images/{training,validation}/*.jpg and\nADEChallengeData2016/annotations/{training,validation}/*.png. It comes as ADEChallengeData2016.zip from\nhttp://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip (MIT, research terms)."
data_preprocessor = dict(
    bgr_to_rgb=True,
    mean=[
        123.675,
        116.28,
        103.53,
    ],
    pad_val=0,
    seg_pad_val=255,
    size=(
        512,
        512,
    ),
    std=[
        58.395,
        57.12,
        57.375,
    ],
    type='SegDataPreProcessor')
data_root = 'data/ade/ADEChallengeData2016'
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        content='full',
        interval=2,
        max_keep_ckpts=1,
        type='lspt_mm.PromptCheckpointHook'),
    finite=dict(type='lspt_mm.FiniteLossHook'),
    logger=dict(interval=1, log_metric_by_epoch=False, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    run_log=dict(interval=50, type='lspt_mm.RunLogHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    stop=dict(type='lspt_mm.StopOnSignalHook'),
    timer=dict(type='IterTimerHook'),
    visualization=dict(type='SegVisualizationHook'))
default_scope = 'mmseg'
env_cfg = dict(
    cudnn_benchmark=True,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
img_ratios = [
    0.5,
    0.75,
    1.0,
    1.25,
    1.5,
    1.75,
]
labels = dict(num_classes=150, type='lspt_mm.LoadSegLabels')
launcher = 'none'
load = [
    dict(type='lspt_mm.LoadImage'),
    dict(num_classes=150, type='lspt_mm.LoadSegLabels'),
]
load_from = None
load_labels = dict(num_classes=150, type='lspt_mm.LoadSegLabels')
log_level = 'INFO'
log_processor = dict(by_epoch=False)
model = dict(
    auxiliary_head=dict(
        align_corners=False,
        channels=4,
        concat_input=False,
        dropout_ratio=0.0,
        in_channels=16,
        in_index=2,
        loss_decode=dict(
            loss_weight=0.4, type='CrossEntropyLoss', use_sigmoid=False),
        norm_cfg=dict(requires_grad=True, type='BN'),
        num_classes=150,
        num_convs=1,
        type='lspt_mm.FCNHead'),
    backbone=dict(
        arch=dict(
            embed_dims=16, feedforward_channels=32, num_heads=2, num_layers=4),
        final_norm=False,
        img_size=(
            32,
            32,
        ),
        out_indices=(
            0,
            1,
            2,
            3,
        ),
        out_type='featmap',
        patch_size=8,
        pretrained='tiny_vit.pth',
        prompter=dict(dropout=0.0, num_tokens=3, type='LSPT'),
        tune='prompts',
        type='lspt_mm.PromptedViT'),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        pad_val=0,
        seg_pad_val=255,
        size=(
            32,
            32,
        ),
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='SegDataPreProcessor'),
    decode_head=dict(
        align_corners=False,
        channels=4,
        dropout_ratio=0.0,
        in_channels=[
            16,
            16,
            16,
            16,
        ],
        in_index=[
            0,
            1,
            2,
            3,
        ],
        loss_decode=dict(
            loss_weight=1.0, type='CrossEntropyLoss', use_sigmoid=False),
        norm_cfg=dict(requires_grad=True, type='BN'),
        num_classes=150,
        pool_scales=(
            1,
            2,
            3,
            6,
        ),
        type='lspt_mm.UPerHead'),
    neck=dict(
        embed_dim=16,
        norm_cfg=dict(requires_grad=True, type='BN'),
        rescales=[
            4,
            2,
            1,
            0.5,
        ],
        type='Feature2Pyramid'),
    test_cfg=dict(crop_size=(
        32,
        32,
    ), mode='slide', stride=(
        21,
        21,
    )),
    train_cfg=dict(),
    type='EncoderDecoder')
norm_cfg = dict(requires_grad=True, type='SyncBN')
optim_wrapper = dict(
    constructor='lspt_mm.TrainableOptimWrapperConstructor',
    optimizer=dict(
        betas=(
            0.9,
            0.999,
        ), lr=0.03, type='AdamW', weight_decay=0.05),
    paramwise_cfg=dict(
        bias_decay_mult=0.0,
        custom_keys=dict(prompter=dict(decay_mult=0.0, lr_mult=10.0)),
        norm_decay_mult=0.0),
    type='OptimWrapper')
param_scheduler = [
    dict(
        begin=0, by_epoch=False, end=8, eta_min=0.0, power=1.0, type='PolyLR'),
]
pretrained_help = 'mae_pretrain_vit_base.pth is the official MAE ViT-B/16 (encoder only), from\nhttps://dl.fbaipublicfiles.com/mae/pretrain/mae_pretrain_vit_base.pth (CC BY-NC 4.0).'
randomness = dict(seed=1)
resume = False
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_prefix=dict(
            img_path='images/validation',
            seg_map_path='annotations/validation'),
        data_root='ade',
        pipeline=[
            dict(type='lspt_mm.LoadImage'),
            dict(num_classes=150, type='lspt_mm.LoadSegLabels'),
            dict(type='PackSegInputs'),
        ],
        type='ADE20KDataset'),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(
    iou_metrics=[
        'mIoU',
    ], type='IoUMetric')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(keep_ratio=True, scale=(
        2048,
        512,
    ), type='Resize'),
    dict(num_classes=150, type='lspt_mm.LoadSegLabels'),
    dict(type='PackSegInputs'),
]
train_cfg = dict(
    max_iters=4, type='lspt_mm.ResumableIterBasedTrainLoop', val_interval=4)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        data_prefix=dict(
            img_path='images/training', seg_map_path='annotations/training'),
        data_root='ade',
        pipeline=[
            dict(type='lspt_mm.LoadImage'),
            dict(num_classes=150, type='lspt_mm.LoadSegLabels'),
            dict(keep_ratio=False, scale=(
                32,
                32,
            ), type='Resize'),
            dict(type='PackSegInputs'),
        ],
        type='ADE20KDataset'),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=True, type='InfiniteSampler'))
train_pipeline = [
    dict(type='lspt_mm.LoadImage'),
    dict(num_classes=150, type='lspt_mm.LoadSegLabels'),
    dict(
        keep_ratio=True,
        ratio_range=(
            0.5,
            2.0,
        ),
        scale=(
            2048,
            512,
        ),
        type='RandomResize'),
    dict(cat_max_ratio=0.75, crop_size=(
        512,
        512,
    ), type='RandomCrop'),
    dict(prob=0.5, type='RandomFlip'),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        transforms=[
            [
                dict(keep_ratio=True, scale_factor=1.0, type='Resize'),
                dict(keep_ratio=True, scale_factor=1.5, type='Resize'),
            ],
            [
                dict(prob=0.0, type='RandomFlip'),
                dict(prob=1.0, type='RandomFlip'),
            ],
            [
                dict(num_classes=150, type='lspt_mm.LoadSegLabels'),
            ],
            [
                dict(type='PackSegInputs'),
            ],
        ],
        type='TestTimeAug'),
]
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_prefix=dict(
            img_path='images/validation',
            seg_map_path='annotations/validation'),
        data_root='ade',
        pipeline=[
            dict(type='lspt_mm.LoadImage'),
            dict(num_classes=150, type='lspt_mm.LoadSegLabels'),
            dict(type='PackSegInputs'),
        ],
        type='ADE20KDataset'),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(
    iou_metrics=[
        'mIoU',
    ], type='IoUMetric')
vis_backends = [
    dict(type='lspt_mm.PatientLocalVisBackend'),
]
visualizer = dict(
    name='visualizer',
    type='SegLocalVisualizer',
    vis_backends=[
        dict(type='lspt_mm.PatientLocalVisBackend'),
    ])
work_dir = 'segmentation'
