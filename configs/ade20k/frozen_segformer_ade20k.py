"""``lspt_segformer_ade20k.py`` without prompts: the same head on the same frozen ViT."""
_base_ = './lspt_segformer_ade20k.py'
model = dict(backbone=dict(prompter=None, tune='nothing'))
