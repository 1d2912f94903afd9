"""``lspt_upernet_ade20k.py`` with VPT-deep and the biases of the ViT, tuned together."""
_base_ = ['../lspt_upernet_ade20k.py', '../_base_/prompters/vpt-deep-bias.py']
model = dict(backbone=dict(tune=_base_.method.tune, prompter=dict(_base_.pop('method').prompter, _delete_=True)))
