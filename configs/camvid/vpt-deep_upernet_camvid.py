"""``lspt_upernet_camvid.py`` with VPT-deep."""
_base_ = ['./lspt_upernet_camvid.py', '../_base_/prompters/vpt-deep.py']
model = dict(backbone=dict(prompter=dict(_base_.method.prompter, **_base_.pop('method').camvid, _delete_=True)))
