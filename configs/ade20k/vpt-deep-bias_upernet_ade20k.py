"""``lspt_upernet_ade20k.py`` with VPT-deep and the biases of the ViT, tuned together."""
_base_ = '../lspt_upernet_ade20k.py'
model = dict(backbone=dict(tune='prompts+bias', prompter=dict(
    _delete_=True, type='VPT', num_tokens=10, deep=True, dropout=0.1)))
