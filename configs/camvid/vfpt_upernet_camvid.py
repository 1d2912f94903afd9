"""``lspt_upernet_camvid.py`` with Visual Fourier Prompt Tuning, deep (VFPT)."""
_base_ = ['./lspt_upernet_camvid.py', '../_base_/prompters/vfpt.py']
model = dict(backbone=dict(prompter=dict(_base_.method.prompter, **_base_.pop('method').camvid, _delete_=True)))
