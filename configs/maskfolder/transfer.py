"""Your own images and masks: one pre-trained ViT, one method, one head; pass arguments after a colon.

    python -m lspt_mm own_masks --images IMAGES --masks MASKS --to data/mine
    python -m lspt_mm train maskfolder/transfer.py:data=data/mine --work-dir work_dirs/mine --checkpoint prompts
    python -m lspt_mm train maskfolder/transfer.py:data=data/mine,method=gated,pretrained=timm:vit_base_patch16_224.mae
    python -m lspt_mm train maskfolder/transfer.py:data=data/mine,method=frozen,head=linear
    python -m lspt_mm train maskfolder/transfer.py:data=data/mine,crop=224,iters=200,batch_size=4,channels=64
    python -m lspt_mm test work_dirs/mine/transfer.py work_dirs/mine/iter_1000.pth --tta

The last training command runs on a laptop without a GPU. Arguments (docs/own_segmentation.md, ``lspt_mm.recipes.mask_folder``):

- ``data``: the prepared folder; classes and colours come from it;
- ``method``: a file of ``configs/_base_/prompters`` (lspt, vpt, gated ...), or frozen, lora, bias, partial-1, full;
- ``pretrained``: weights of the ViT, ``timm:NAME`` or a file, from which the ViT is detected; ``model``, ``arch`` if it is not;
- ``crop``, ``short_side``, ``mode``: side of crops, length of the shorter side (0: unchanged), slide or whole;
- ``head``: linear, light (SegFormer's), upernet, which start from logistic regression on frozen features; or paper;
- ``balance``, for classes with few pixels: none, weights, sampling, dice;
- ``iters``, ``batch_size``, ``lr``, ``prompt_lr``, ``linear_lr``, ``seed``, ``num_tokens``, ``rank``, ``channels``, ``flip``, ``workers``.

Every run saves its whole config, without arguments, in its work dir; test, predict and publish with that one.
"""
_base_ = ['../_base_/models/lspt_upernet.py', '../_base_/datasets/segmentation.py',
          '../_base_/segmentation_runtime.py', '../_base_/schedules/schedule_160k.py']
from lspt_mm.recipes import resolve_mask_run

run = resolve_mask_run()
# Model, optimizer and schedule.
globals().update(run.config())

data_root = run.data
data_help = '''\
Layout: FOLDER with train.json, val.json, images/ and masks/, from
python -m lspt_mm own_masks --images IMAGES --masks MASKS --to FOLDER'''
pretrained_help = '''\
timm:NAME fetches weights by itself; a file of MAE, MoCo v3, DINO or timm: maskfolder/transfer.py:pretrained=FILE'''
train_pipeline, test_pipeline, tta_pipeline = run.pipelines()
dataset_cfg = dict(
    type='lspt_mm.MaskFolder', data_root=data_root,
    metainfo=dict(classes=run.about['classes'], palette=run.about['palette']))
held_out = 'test' if 'test' in run.about['images'] else 'val'
loading = dict(num_workers=run.workers, persistent_workers=run.workers > 0)

train_dataloader = dict(
    batch_size=run.batch_size,
    dataset=run.training_data(dict(**dataset_cfg, ann_file='train.json', pipeline=train_pipeline)), **loading)
val_dataloader = dict(dataset=dict(**dataset_cfg, ann_file='val.json', pipeline=test_pipeline), **loading)
test_dataloader = dict(dataset=dict(**dataset_cfg, ann_file=f'{held_out}.json', pipeline=test_pipeline), **loading)

del run, dataset_cfg, held_out, loading
