"""LSPT with a standardised spatial code, added to each block's own prompts (ours, docs/lspt_study.md)."""
_base_ = './lspt.py'
method = dict(title='LSPT-plus (ours)', lr=3e-3, prompter=dict(standardize=True, own_prompts=True))
