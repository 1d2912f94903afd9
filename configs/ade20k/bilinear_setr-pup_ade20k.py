"""``lspt_setr-pup_ade20k.py`` with Bilinear Prompt Tuning, shallow (BPT)."""
_base_ = ['./lspt_setr-pup_ade20k.py', '../_base_/prompters/bilinear.py']
model = dict(backbone=dict(prompter=dict(_base_.pop('method').prompter, _delete_=True)))
