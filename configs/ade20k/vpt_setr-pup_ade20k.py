"""``lspt_setr-pup_ade20k.py`` with VPT-shallow.

Published mIoU of the authors' own run (GaPT's table), single / multi scale: MAE 34.20 / 35.23, MoCo v3
34.55 / 36.18. Not measured here.
"""
_base_ = ['./lspt_setr-pup_ade20k.py', '../_base_/prompters/vpt.py']
model = dict(backbone=dict(prompter=dict(_base_.pop('method').prompter, _delete_=True)))
