"""``lspt_upernet_camvid.py`` with VPT-shallow."""
_base_ = ['./lspt_upernet_camvid.py', '../_base_/prompters/vpt.py']
model = dict(backbone=dict(prompter=dict(_base_.method.prompter, **_base_.pop('method').camvid, _delete_=True)))
