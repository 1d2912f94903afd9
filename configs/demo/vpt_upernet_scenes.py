"""``lspt_upernet_scenes.py`` with VPT-shallow."""
_base_ = ['./lspt_upernet_scenes.py', '../_base_/prompters/vpt.py']
model = dict(backbone=dict(prompter=dict(_base_.method.prompter, **_base_.pop('method').demo, _delete_=True)))
