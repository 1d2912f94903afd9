"""``lspt_setr-pup_ade20k.py`` with VPT-deep (arXiv 2203.12119). 10 prompts in each of the 12 blocks, as
GaPT's paper has it for FGVC.

Published mIoU of the authors' own run (GaPT's table), single / multi scale: MAE 37.76 / 38.80, MoCo v3
35.50 / 37.15. Not measured here.
"""
_base_ = './lspt_setr-pup_ade20k.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='VPT', num_tokens=10, deep=True, dropout=0.1)))
