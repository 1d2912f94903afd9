"""``lspt_segformer_ade20k.py`` with VPT-deep."""
_base_ = ['./lspt_segformer_ade20k.py', '../_base_/prompters/vpt-deep.py']
model = dict(backbone=dict(prompter=dict(_base_.pop('method').prompter, _delete_=True)))
