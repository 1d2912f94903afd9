"""Rendered scenes of ``projects.demo.scenes``: 16 classes, 128x128, ADE20K's layout and labels.

``validation`` is for choosing hyper-parameters, ``test`` for the report.
"""
_base_ = './segmentation.py'
from lspt_mm.recipes import pipelines

data_root = 'work_dirs/demo/scenes'
data_help = 'The scenes are rendered by projects/demo/demo.py (make demo).'
crop_size = (96, 96)
load_labels = dict(type='lspt_mm.LoadSegLabels', num_classes=16)
train_pipeline = [
    dict(type='lspt_mm.LoadImage'),
    load_labels,
    dict(type='RandomResize', scale=(128, 128), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.9),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')
]
test_pipeline = [pipelines.LOAD_TEST, load_labels, dict(type='PackSegInputs')]
img_ratios = [0.75, 1.0, 1.25]
tta_pipeline = pipelines.scales_and_flips(
    [dict(type='Resize', scale_factor=r, keep_ratio=True) for r in img_ratios], load_labels)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        type='lspt_mm.SceneDataset', data_root=data_root, split='training',
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        type='lspt_mm.SceneDataset', data_root=data_root, split='validation',
        pipeline=test_pipeline))
test_dataloader = dict(
    dataset=dict(
        type='lspt_mm.SceneDataset', data_root=data_root, split='test', pipeline=test_pipeline))
