"""``lspt_setr-pup_ade20k.py`` with Gated Prompt Tuning (GaPT, arXiv 2306.05067). P and gate init as in its table
for ADE20K.

Published mIoU of the authors' own run (GaPT's table), single / multi scale: MAE 38.44 / 39.81, MoCo v3
36.81 / 38.55. Not measured here.
"""
_base_ = './lspt_setr-pup_ade20k.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='GatedPrompt', num_tokens=100, gate_init=10., dropout=0.1)))
