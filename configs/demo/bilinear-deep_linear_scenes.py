"""``lspt_linear_scenes.py`` with Bilinear Prompt Tuning, deep (BPT, arXiv 2506.22908)."""
_base_ = './lspt_linear_scenes.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='BilinearPrompt', num_tokens=10, rank=10, deep=True, start='whiten')))
