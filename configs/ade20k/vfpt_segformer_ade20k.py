"""``lspt_segformer_ade20k.py`` with Visual Fourier Prompt Tuning, deep (VFPT)."""
_base_ = ['./lspt_segformer_ade20k.py', '../_base_/prompters/vfpt.py']
model = dict(backbone=dict(prompter=dict(_base_.pop('method').prompter, _delete_=True)))
