"""``lspt_upernet_ade20k.py`` with Gated Prompt Tuning (GaPT)."""
_base_ = ['../lspt_upernet_ade20k.py', '../_base_/prompters/gated.py']
model = dict(backbone=dict(prompter=dict(_base_.pop('method').prompter, _delete_=True)))
