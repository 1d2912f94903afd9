"""``lspt_linear_scenes.py`` with Self-Prompt Tuning, deep (SPT, arXiv 2402.02382)."""
_base_ = './lspt_linear_scenes.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='SelfPrompt', num_tokens=10, deep=True, start='sample', dropout=0.1)))
