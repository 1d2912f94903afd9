"""LSPT with a standardised mean patch and prompts of each block's own (ours, docs/lspt_study.md)."""
_base_ = './lspt.py'
method = dict(
    title='LSPT+ (ours)',
    lr=3e-3,
    prompter=dict(standardize=True, own_prompts=True))
