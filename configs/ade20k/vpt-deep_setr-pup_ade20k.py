"""``lspt_setr-pup_ade20k.py`` with VPT-deep.

Published mIoU of the authors' own run (GaPT's table), single / multi scale: MAE 37.76 / 38.80, MoCo v3
35.50 / 37.15. Not measured here.
"""
_base_ = ['./lspt_setr-pup_ade20k.py', '../_base_/prompters/vpt-deep.py']
model = dict(backbone=dict(prompter=dict(_base_.pop('method').prompter, _delete_=True)))
