"""The main job: MAE ViT-B/16, frozen, tuned by LSPT, with UPerNet on ADE20K.

    python tools/train.py configs/lspt_upernet_ade20k.py --amp
    tools/dist_train.sh configs/lspt_upernet_ade20k.py 8 --amp --cfg-options train_dataloader.batch_size=2
    python tools/test.py configs/lspt_upernet_ade20k.py work_dirs/lspt_upernet_ade20k/iter_160000.pth
    ... --tta        for multi-scale testing with flips

512x512 crops, batch 16, 160k iterations, sliding-window testing. The batch size is per process: on 8
GPUs give each 2. For another method, change ``prompter``; ViT-S and ViT-L are in ``configs/ade20k/``.

The paper (arXiv 2402.17406) states neither head, schedule, optimizer nor any result for ADE20K, so
everything except the method itself is ours. This project has not measured a result of this config:
it needs ADE20K, the MAE file and GPU-days. For comparison, published single-scale mIoU on this ViT with a
SETR-PUP head: VPT-deep 37.76, GaPT 38.44; full fine-tuning with UPerNet 48.13.
"""
_base_ = [
    './_base_/models/lspt_upernet.py',
    './_base_/datasets/ade20k.py',
    './_base_/segmentation_runtime.py',
    './_base_/schedules/schedule_160k.py',
]
