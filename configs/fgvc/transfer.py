"""Fine-grained classification: one data set, one pre-training, one method; all numbers by ``lspt_mm.recipes``.

    python tools/train.py configs/fgvc/transfer.py:task=cub,pretraining=mae,method=lspt
    python tools/train.py fgvc/lspt_mae_cub                         # the same, by its name
    python tools/search.py fgvc/lspt_mae_cub                        # the protocol: select, then test once

Trains on train.json and validates on val.json; ``tools/search.py`` trains the chosen model on both and tests it.
Training images: shorter side 256, random crop of 224, flip (BPT's recipe: crops of random size); test images: the
central crop. The data are laid out by ``tools/dataset_converters/prepare.py``.
"""
_base_ = ['../_base_/classification_runtime.py', '../_base_/models/prompted_classifier.py',
          '../_base_/datasets/classification.py']
from lspt_mm.datasets.fgvc import TASKS  # noqa: E402
from lspt_mm.recipes import resolve  # noqa: E402
from lspt_mm.recipes.pipelines import crops  # noqa: E402

chosen = resolve('fgvc', task='cub', pretraining='mae', method='lspt')
# Model, optimizer and schedule.
globals().update(chosen.config(TASKS[chosen.task].num_classes))

data_root = 'data/fgvc'
data_help = f'''\
Layout: FOLDER/{chosen.task}/ with train.json, val.json, test.json and the images, from
tools/dataset_converters/prepare.py {chosen.task} --from FOLDER_OF_THE_ARCHIVES'''
train_pipeline, test_pipeline = crops(chosen)
of_task = dict(type='lspt_mm.FGVC', task=chosen.task, data_root=data_root, official_counts=chosen.official)
train_dataloader = dict(
    batch_size=chosen.batch_size, dataset=dict(**of_task, split='train', pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=chosen.batch_size, dataset=dict(**of_task, split='val', pipeline=test_pipeline))
test_dataloader = dict(
    batch_size=chosen.batch_size, dataset=dict(**of_task, split='test', pipeline=test_pipeline))

del TASKS, resolve, crops, chosen, of_task
