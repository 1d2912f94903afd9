"""``lspt_segformer_ade20k.py`` with Bilinear Prompt Tuning, deep (BPT, arXiv 2506.22908). P and p are the paper's for FGVC."""
_base_ = './lspt_segformer_ade20k.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='BilinearPrompt', num_tokens=50, rank=50, deep=True, start='whiten')))
