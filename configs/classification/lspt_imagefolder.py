"""LSPT on any folder of images with one sub-folder per class, by mmpretrain's ``ImageClassifier``.

    python tools/train.py configs/classification/lspt_imagefolder.py --data-root DIR \\
        --cfg-options model.head.num_classes=200

Trains on ``DIR/train/CLASS/*.jpg`` and validates on ``DIR/val/CLASS/*.jpg``. The protocol is GaPT's for MAE
(arXiv 2306.05067), which LSPT's paper reuses: mean of prompts and patches, the pre-trained frozen final norm,
a linear head; for MoCo v3 it is the class token after that norm (``model.backbone.out_type=cls_token``). SGD,
10 of 100 epochs for warm-up, no weight decay. The learning rate depends on the data: theirs range from 0.05 to 0.5.
With selection, seeds and a test at the end: ``configs/imagefolder/transfer.py``.
"""
_base_ = ['../_base_/classification_runtime.py', '../_base_/models/prompted_classifier.py',
          '../_base_/datasets/classification.py', '../_base_/prompters/lspt.py']
from lspt_mm.recipes import pipelines

model = dict(backbone=dict(prompter=_base_.pop('method').prompter))
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
test_pipeline = pipelines.central_crop(224, 'bicubic')
train_dataloader = dict(dataset=dict(
    type='lspt_mm.ImageFolder', data_root=data_root, data_prefix='train', pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(
    type='lspt_mm.ImageFolder', data_root=data_root, data_prefix='val', pipeline=test_pipeline))
test_dataloader = val_dataloader
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='lspt_mm.TrainableOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=10),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=10, end=100)
]
