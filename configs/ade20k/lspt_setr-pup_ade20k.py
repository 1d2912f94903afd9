"""LSPT with the head of GaPT's table on ADE20K: SETR-PUP, auxiliary heads at blocks 5 and 9.

    python tools/train.py configs/ade20k/lspt_setr-pup_ade20k.py --amp

Other methods inherit from this file. Batch 16, 100 prompts and the learning rate 0.001 are GaPT's
(arXiv 2306.05067); its optimizer and schedule are not known. SGD without weight decay and ten times the rate
for the heads are from MMSegmentation's SETR; 160k iterations are ours. None of this has been measured here.
"""
_base_ = [
    '../_base_/models/lspt_setr_pup.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/segmentation_runtime.py',
    '../_base_/schedules/schedule_160k.py',
]
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='SGD', lr=1e-3, momentum=0.9, weight_decay=0.),
    paramwise_cfg=dict(
        _delete_=True, custom_keys=dict(decode_head=dict(lr_mult=10.), auxiliary_head=dict(lr_mult=10.))))
