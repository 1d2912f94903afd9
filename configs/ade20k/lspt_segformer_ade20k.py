"""``lspt_upernet_ade20k.py`` with a light head, a fraction of UPerNet's cost (docs/performance.md).

    python tools/train.py configs/ade20k/lspt_segformer_ade20k.py --amp

Data, schedule and protocol are the same. This project has not measured its accuracy.
"""
_base_ = [
    '../_base_/models/lspt_segformer.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/segmentation_runtime.py',
    '../_base_/schedules/schedule_160k.py',
]
