"""``lspt_upernet_ade20k.py`` with VPT-shallow."""
_base_ = ['../lspt_upernet_ade20k.py', '../_base_/prompters/vpt.py']
model = dict(backbone=dict(prompter=dict(_base_.pop('method').prompter, _delete_=True)))
