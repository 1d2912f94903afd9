"""The main job: MAE ViT-B/16, frozen, tuned by LSPT, with UPerNet on ADE20K.

    python tools/train.py configs/lspt_upernet_ade20k.py --amp
    tools/dist_train.sh configs/lspt_upernet_ade20k.py 8 --amp --cfg-options train_dataloader.batch_size=2
    python tools/test.py configs/lspt_upernet_ade20k.py work_dirs/lspt_upernet_ade20k/iter_160000.pth
    ... --tta        for multi-scale testing with flips

512x512 crops, batch 16, 160k iterations, sliding-window testing. The batch size is per process: on 8
GPUs give each 2. Another method is another ``prompter``; ViT-S and ViT-L are in ``configs/ade20k/``.

The paper (arXiv 2402.17406) states neither head, schedule, optimizer nor any figure for ADE20K, so that
everything but the method itself is ours. No result of this config has been measured by this project:
it needs ADE20K, the MAE file and GPU-days. For comparison, published single-scale mIoU on this ViT with a
SETR-PUP head: VPT-deep 37.76, GaPT 38.44; full fine-tuning with UPerNet 48.13.
"""
_base_ = [
    './_base_/models/lspt_upernet.py',
    './_base_/datasets/ade20k.py',
    './_base_/segmentation_runtime.py',
    './_base_/schedules/schedule_160k.py',
]
