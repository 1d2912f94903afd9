"""``lspt_upernet_camvid.py`` with VPT-deep (arXiv 2203.12119)."""
_base_ = './lspt_upernet_camvid.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='VPT', num_tokens=20, deep=True, dropout=0.1)))
