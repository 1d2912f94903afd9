"""``lspt_upernet_camvid.py`` without prompts: the same head on the same frozen ViT."""
_base_ = './lspt_upernet_camvid.py'
model = dict(backbone=dict(prompter=None))
