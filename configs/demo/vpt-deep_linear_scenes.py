"""``lspt_linear_scenes.py`` with VPT-deep (arXiv 2203.12119)."""
_base_ = './lspt_linear_scenes.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='VPT', num_tokens=10, deep=True, dropout=0.1)))
