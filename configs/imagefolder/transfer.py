"""Your own images, a folder per class: one pre-training, one method; settings are in ``lspt_mm.recipes``.

    python tools/dataset_converters/prepare.py imagefolder --from DIR --to data/mine
    python tools/train.py configs/imagefolder/transfer.py:task=data/mine,pretraining=mae,method=lspt
    python tools/search.py configs/imagefolder/transfer.py:task=data/mine,pretraining=mae,method=lspt

Trains on train.json and validates on val.json; ``tools/search.py`` trains the chosen model on both and tests it
once on test.json (without that, ``tools/test.py`` tests on val.json). Images are processed as for FGVC. There are
no published values: the head starts from logistic regression, and with ``head=paper`` the defaults are GaPT's most
common ones for FGVC. With labels from a table
(``prepare.py --labels``), an image may have several classes or none: the head then has a sigmoid for each, and
the metrics are macro F1 and mAP.
"""
_base_ = ['../_base_/classification_runtime.py', '../_base_/models/prompted_classifier.py',
          '../_base_/datasets/classification.py']
from lspt_mm.recipes import images_of, resolve_experiment
from lspt_mm.recipes.pipelines import crops

exp = resolve_experiment('imagefolder', task='data/images', pretraining='mae', method='lspt')
about = images_of(exp.task)
classes = about['classes']
# Model, optimizer and schedule.
globals().update(exp.config(len(classes), about['multi_label']))

data_root = exp.task
data_help = '''\
Layout: FOLDER with train.json, val.json, test.json and the images, from
tools/dataset_converters/prepare.py imagefolder --from FOLDER_OF_IMAGES --to FOLDER'''
dataset_cfg = dict(
    type='lspt_mm.ListedImages', data_root=data_root, data_prefix='', num_classes=len(classes),
    metainfo=dict(classes=classes))
if about['multi_label']:
    dataset_cfg['multi_label'] = True
lists = ('train.json', 'val.json', f"{about['held_out']}.json")
globals().update(exp.loaders(dataset_cfg, crops(exp), ann_file=lists))

del exp, dataset_cfg, about, lists
