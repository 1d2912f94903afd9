"""``lspt_upernet_scenes.py`` with Gated Prompt Tuning (GaPT)."""
_base_ = ['./lspt_upernet_scenes.py', '../_base_/prompters/gated.py']
model = dict(backbone=dict(prompter=dict(_base_.method.prompter, **_base_.pop('method').demo, _delete_=True)))
