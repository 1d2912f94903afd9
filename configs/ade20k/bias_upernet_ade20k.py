"""``lspt_upernet_ade20k.py`` with the biases of the ViT tuned (BitFit), without prompts."""
_base_ = '../lspt_upernet_ade20k.py'
model = dict(backbone=dict(prompter=None, tune='bias'))
