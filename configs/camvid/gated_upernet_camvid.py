"""``lspt_upernet_camvid.py`` with Gated Prompt Tuning (GaPT)."""
_base_ = ['./lspt_upernet_camvid.py', '../_base_/prompters/gated.py']
model = dict(backbone=dict(prompter=dict(_base_.method.prompter, **_base_.pop('method').camvid, _delete_=True)))
