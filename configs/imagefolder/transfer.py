"""Your own images, a folder per class: one pre-training, one method; all numbers by ``lspt_mm.recipes``.

    python tools/dataset_converters/prepare.py imagefolder --from DIR --to data/mine
    python tools/train.py configs/imagefolder/transfer.py:task=data/mine,pretraining=mae,method=lspt
    python tools/search.py configs/imagefolder/transfer.py:task=data/mine,pretraining=mae,method=lspt

Trains on train.json and validates on val.json; ``tools/search.py`` trains the chosen model on both and tests it
once on test.json. Images as for FGVC. Without published values the defaults are GaPT's most common ones for FGVC.
"""
_base_ = ['../_base_/classification_runtime.py', '../_base_/models/prompted_classifier.py',
          '../_base_/datasets/classification.py']
from lspt_mm.recipes import classes_of, resolve  # noqa: E402
from lspt_mm.recipes.pipelines import crops  # noqa: E402

chosen = resolve('imagefolder', task='data/images', pretraining='mae', method='lspt')
classes = classes_of(chosen.task)
# Model, optimizer and schedule.
globals().update(chosen.config(len(classes)))

data_root = chosen.task
data_help = '''\
Layout: FOLDER with train.json, val.json, test.json and the images, from
tools/dataset_converters/prepare.py imagefolder --from FOLDER_OF_IMAGES --to FOLDER'''
train_pipeline, test_pipeline = crops(chosen)
of_task = dict(
    type='lspt_mm.ListedImages', data_root=data_root, data_prefix='', num_classes=len(classes),
    metainfo=dict(classes=classes))

train_dataloader = dict(
    batch_size=chosen.batch_size, dataset=dict(**of_task, ann_file='train.json', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=chosen.batch_size, dataset=dict(**of_task, ann_file='val.json', pipeline=test_pipeline))
test_dataloader = dict(
    batch_size=chosen.batch_size, dataset=dict(**of_task, ann_file='test.json', pipeline=test_pipeline))

del classes_of, resolve, crops, chosen, of_task
