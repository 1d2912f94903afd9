"""``lspt_segformer_ade20k.py`` with VPT-deep (arXiv 2203.12119). 10 prompts in each of the 12 blocks, as
GaPT's paper has it for FGVC."""
_base_ = './lspt_segformer_ade20k.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='VPT', num_tokens=10, deep=True, dropout=0.1)))
