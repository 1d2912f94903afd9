"""``lspt_segformer_ade20k.py`` with VPT-shallow (arXiv 2203.12119)."""
_base_ = './lspt_segformer_ade20k.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='VPT', num_tokens=100)))
