"""``lspt_upernet_ade20k.py`` with the last block of the ViT tuned, without prompts."""
_base_ = '../lspt_upernet_ade20k.py'
model = dict(backbone=dict(prompter=None, tune='partial-1'))
