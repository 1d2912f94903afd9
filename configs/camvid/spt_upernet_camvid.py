"""``lspt_upernet_camvid.py`` with Self-Prompt Tuning, deep (SPT, arXiv 2402.02382)."""
_base_ = './lspt_upernet_camvid.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='SelfPrompt', num_tokens=20, deep=True, start='sample', dropout=0.1)))
