"""Fine-grained classification: one data set, one pre-training, one method; settings are in ``lspt_mm.recipes``.

    python tools/train.py configs/fgvc/transfer.py:task=cub,pretraining=mae,method=lspt
    python tools/train.py fgvc/lspt_mae_cub                         # the same, by its name
    python tools/search.py fgvc/lspt_mae_cub                        # the protocol: select, then test once

Trains on train.json and validates on val.json; ``tools/search.py`` trains the chosen model on both and tests it.
Training images: shorter side 256, random crop of 224, flip (BPT's recipe: crops of random size); test images: the
central crop. ``tools/dataset_converters/prepare.py`` creates the layout of the data.
"""
_base_ = ['../_base_/classification_runtime.py', '../_base_/models/prompted_classifier.py',
          '../_base_/datasets/classification.py']
from lspt_mm.config.benchmarks import FGVC_TASKS as TASKS
from lspt_mm.recipes import resolve_experiment
from lspt_mm.recipes.pipelines import crops

exp = resolve_experiment('fgvc', task='cub', pretraining='mae', method='lspt')
# Model, optimizer and schedule.
globals().update(exp.config(TASKS[exp.task].num_classes))

data_root = 'data/fgvc'
data_help = f'''\
Layout: FOLDER/{exp.task}/ with train.json, val.json, test.json and the images, from
tools/dataset_converters/prepare.py {exp.task} --from FOLDER_OF_THE_ARCHIVES'''
dataset_cfg = dict(type='lspt_mm.FGVC', task=exp.task, data_root=data_root, official_counts=exp.official)
globals().update(exp.loaders(dataset_cfg, crops(exp), split=('train', 'val', 'test')))

del TASKS, exp, dataset_cfg
