"""ADE20K on any frozen pre-trained ViT, with a method and a head; settings are in ``lspt_mm.recipes.ade20k``.

    python tools/train.py configs/ade20k/transfer.py --amp
    python tools/train.py configs/ade20k/transfer.py:method=lspt --amp
    python tools/train.py configs/ade20k/transfer.py:pretrained=timm:vit_large_patch16_dinov3.lvd1689m,method=lora --amp
    python tools/train.py configs/ade20k/transfer.py:pretrained=dinov2,head=upernet,method=vpt-deep --amp
    tools/dist_train.sh configs/ade20k/transfer.py:method=gated,batch_size=2 8 --amp

Without arguments: DINOv3 ViT-B/16, frozen, batch norm and one 1x1 convolution, 40k iterations, as DINOv3's
authors evaluate it. Published single-scale mIoU of that recipe: ViT-S 47.0, B 51.8, L 54.9 (their model card).
This project has not measured a result of this config: it needs ADE20K, the weights and GPU-hours.

- ``pretrained``: dinov3, dinov2, siglip2, pe, ``timm:NAME``, or a file, from which the ViT is detected;
- ``method``: a file of ``configs/_base_/prompters`` (lspt, vpt-deep, gated ...), or frozen, lora, bias, partial-1, full;
- ``head``: linear or upernet;
- ``crop``, ``iters``, ``batch_size``, ``num_tokens``, ``rank`` (LoRA, BPT), ``lr``, ``prompt_lr``; ``model``, ``arch`` if it is not detected.
"""
_base_ = ['../_base_/models/lspt_upernet.py', '../_base_/datasets/ade20k.py',
          '../_base_/segmentation_runtime.py', '../_base_/schedules/schedule_160k.py']
from lspt_mm.recipes import resolve_ade20k_run
from lspt_mm.recipes.pipelines import LOAD_TEST, scales_and_flips

run = resolve_ade20k_run()
# Model, optimizer and schedule.
globals().update(run.config())

pretrained_help = 'timm:NAME fetches weights by itself; a file: configs/ade20k/transfer.py:pretrained=FILE'
labels = dict(type='lspt_mm.LoadSegLabels', num_classes=150)
resize = dict(type='Resize', scale=(4 * run.crop, run.crop), keep_ratio=True)
train_pipeline = [
    dict(type='lspt_mm.LoadImage'), labels,
    dict(type='RandomResize', scale=resize['scale'], ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(run.crop, run.crop), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    # DINOv3's recipe leaves colours as they are.
    *([dict(type='PhotoMetricDistortion')] if run.head == 'upernet' else []),
    dict(type='PackSegInputs')]
test_pipeline = [LOAD_TEST, resize, labels, dict(type='PackSegInputs')]
ratios = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
tta_pipeline = scales_and_flips(
    [dict(resize, scale=(int(4 * run.crop * r), int(run.crop * r))) for r in ratios], labels)
train_dataloader = dict(batch_size=run.batch_size, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

del run, labels, resize, ratios
