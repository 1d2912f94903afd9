"""VTAB-1K (arXiv 1910.04867): one task, one pre-training, one method; settings are in ``lspt_mm.recipes``.

    python tools/train.py configs/vtab1k/transfer.py:task=dtd,pretraining=mocov3,method=gated
    python tools/train.py vtab1k/gated_mocov3_dtd                   # the same, by its name
    python tools/search.py vtab1k/gated_mocov3_dtd                  # the protocol: select, then test once

Trains on train800 and validates on val200; ``tools/search.py`` trains the chosen model on both and tests it.
Images are resized to a square, without augmentation. ``tools/dataset_converters/prepare.py vtab-1k`` creates
the layout of the data.
"""
_base_ = ['../_base_/classification_runtime.py', '../_base_/models/prompted_classifier.py',
          '../_base_/datasets/classification.py']
from lspt_mm.config.benchmarks import VTAB_TASKS as TASKS
from lspt_mm.recipes import resolve_experiment
from lspt_mm.recipes.pipelines import squares

exp = resolve_experiment('vtab1k', task='eurosat', pretraining='mae', method='lspt')
# Model, optimizer and schedule.
globals().update(exp.config(TASKS[exp.task].num_classes))

data_root = 'data/vtab-1k'
data_help = f'''\
Layout: FOLDER/{exp.task}/ with images/, train800.txt, val200.txt, train800val200.txt and test.txt, from
tools/dataset_converters/prepare.py vtab-1k --from FOLDER_OF_THE_ARCHIVE'''
dataset_cfg = dict(type='lspt_mm.VTAB1K', task=exp.task, data_root=data_root, official_counts=exp.official)
globals().update(exp.loaders(dataset_cfg, squares(exp), split=('train800', 'val200', 'test')))
# Settings that tools/search.py changes for the final runs.
final = dict(train_dataloader=dict(dataset=dict(split='train800val200')))

del TASKS, exp, dataset_cfg
