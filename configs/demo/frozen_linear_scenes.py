"""``lspt_linear_scenes.py`` without prompts: the same head on the same frozen ViT."""
_base_ = './lspt_linear_scenes.py'
model = dict(backbone=dict(prompter=None))
