"""``lspt_setr-pup_ade20k.py`` with Gated Prompt Tuning (GaPT).

Published mIoU of the authors' own run (GaPT's table), single / multi scale: MAE 38.44 / 39.81, MoCo v3
36.81 / 38.55. Not measured here.
"""
_base_ = ['./lspt_setr-pup_ade20k.py', '../_base_/prompters/gated.py']
model = dict(backbone=dict(prompter=dict(_base_.pop('method').prompter, _delete_=True)))
