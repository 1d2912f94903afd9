"""``lspt_upernet_ade20k.py`` with Self-Prompt Tuning, deep (SPT)."""
_base_ = ['../lspt_upernet_ade20k.py', '../_base_/prompters/spt.py']
model = dict(backbone=dict(prompter=dict(_base_.pop('method').prompter, _delete_=True)))
