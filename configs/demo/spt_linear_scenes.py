"""``lspt_linear_scenes.py`` with Self-Prompt Tuning, deep (SPT)."""
_base_ = ['./lspt_linear_scenes.py', '../_base_/prompters/spt.py']
model = dict(backbone=dict(prompter=dict(_base_.method.prompter, **_base_.pop('method').demo, _delete_=True)))
