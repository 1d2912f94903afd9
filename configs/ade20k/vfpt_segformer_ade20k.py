"""``lspt_segformer_ade20k.py`` with Visual Fourier Prompt Tuning, deep (VFPT, arXiv 2411.01327). Number and share of prompts are ours."""
_base_ = './lspt_segformer_ade20k.py'
model = dict(backbone=dict(prompter=dict(
    _delete_=True, type='FourierPrompt', num_tokens=10, deep=True, share=0.5, dropout=0.1)))
