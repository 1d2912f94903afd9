"""``lspt_segformer_ade20k.py`` with Self-Prompt Tuning, deep (SPT, arXiv 2402.02382). The number of prompts is ours."""
_base_ = './lspt_segformer_ade20k.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='SelfPrompt', num_tokens=10, deep=True, start='sample', dropout=0.1)))
