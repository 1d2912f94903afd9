"""ADE20K (SceneParse150): 150 classes, 20,210 training and 2,000 validation images, 512 crops."""
_base_ = './segmentation.py'
from lspt_mm.recipes import pipelines

data_root = 'data/ade/ADEChallengeData2016'
data_help = '''\
ADE20K's layout: ADEChallengeData2016/images/{training,validation}/*.jpg and
ADEChallengeData2016/annotations/{training,validation}/*.png. It comes as ADEChallengeData2016.zip from
http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip (MIT, research terms).'''
crop_size = (512, 512)
load_labels = dict(type='lspt_mm.LoadSegLabels', num_classes=150)
train_pipeline = [
    dict(type='lspt_mm.LoadImage'),
    load_labels,
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')
]
# Labels are loaded after Resize: predictions are evaluated at the label's original size.
test_pipeline = [
    pipelines.LOAD_TEST,
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    load_labels,
    dict(type='PackSegInputs')
]
# Multi-scale testing resizes the image as in test_pipeline, times each ratio.
img_ratios = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
tta_pipeline = pipelines.scales_and_flips([
    dict(type='Resize', scale=(int(2048 * r), int(512 * r)), keep_ratio=True) for r in img_ratios
], load_labels)
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=4,
    dataset=dict(
        type='ADE20KDataset',
        data_root=data_root,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
